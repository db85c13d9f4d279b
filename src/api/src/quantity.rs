//! Amounts as people write them: memory and disk (`512Mi`), cpu (`0.5`, `500m`), durations (`1h 30m`).
//! Each has one parser and one printer, and what is printed parses back to the same amount.

use std::time::Duration;

use crate::RuleFault;

/// Suffixes of sizes: binary ones first, so that printing prefers them.
const SIZES: [(&str, u64); 8] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
];

/// Units of durations in milliseconds, longest first.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes from `512Mi`, `1.5Gi`, `1G` or `1048576`.
pub fn parse_bytes(text: &str) -> Result<u64, RuleFault> {
    let fault = || RuleFault::new(format!("{text:?} is not a size"));
    let (number, suffix) = split_number(text);
    let scale = match SIZES.iter().find(|(known, _)| *known == suffix) {
        Some((_, scale)) => *scale,
        None if suffix.is_empty() => 1,
        None if number.is_empty() => return Err(fault().hint("write a size such as 512Mi or 1Gi")),
        None => return Err(fault().hint(size_advice(number, suffix))),
    };
    let thousandths = parse_decimal(number)
        .ok_or_else(|| fault().hint("write a number with at most three decimals, such as 512Mi or 1.5Gi"))?;
    let bytes = thousandths * u128::from(scale);
    if bytes % 1000 != 0 {
        return Err(RuleFault::new(format!("{text:?} is not a whole number of bytes")));
    }
    u64::try_from(bytes / 1000)
        .ok()
        .filter(|bytes| *bytes <= i64::MAX.unsigned_abs())
        .ok_or_else(|| RuleFault::new(format!("{text:?} is too large")))
}

/// The advice for a suffix that is nearly one.
fn size_advice(number: &str, suffix: &str) -> String {
    let near = match suffix.to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" | "ki" => "Ki",
        "m" | "mb" | "mib" | "mi" => "Mi",
        "g" | "gb" | "gib" | "gi" => "Gi",
        "t" | "tb" | "tib" | "ti" => "Ti",
        "b" => return format!("write bytes without a unit: {number}"),
        _ => return "units are Ki, Mi, Gi, Ti (1024) and k, M, G, T (1000)".to_owned(),
    };
    format!("did you mean {number}{near}? units are Ki, Mi, Gi, Ti (1024) and k, M, G, T (1000)")
}

/// Bytes with the largest binary unit that divides them, else as a bare number.
pub fn print_bytes(bytes: u64) -> String {
    SIZES
        .iter()
        .take(4)
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .map_or_else(|| bytes.to_string(), |(suffix, scale)| format!("{}{suffix}", bytes / scale))
}

/// Thousandths of a core from `0.5`, `500m` or `2`.
pub fn parse_cpu(text: &str) -> Result<u32, RuleFault> {
    let fault = || {
        RuleFault::new(format!("{text:?} is not an amount of cpu")).hint(
            "write cores such as \"0.5\" or \"2\", with at most three decimals, or thousandths such as 500m",
        )
    };
    let (number, suffix) = split_number(text);
    let millis = match suffix {
        "" => parse_decimal(number).ok_or_else(fault)?,
        "m" => number.parse::<u64>().map_err(|_| fault())?.into(),
        _ => return Err(fault()),
    };
    u32::try_from(millis).map_err(|_| RuleFault::new(format!("{text:?} is too large")))
}

/// Cores with as many decimals as needed.
pub fn print_cpu(millis: u32) -> String {
    let (cores, rest) = (millis / 1000, millis % 1000);
    if rest == 0 {
        return cores.to_string();
    }
    format!("{cores}.{rest:03}").trim_end_matches('0').to_owned()
}

/// A duration from `30s`, `500ms`, `10m`, `1h 30m`: each unit once, longest first.
pub fn parse_duration(text: &str) -> Result<Duration, RuleFault> {
    let fault = || RuleFault::new(format!("{text:?} is not a duration"));
    let advice = "write a number and a unit (ms, s, m, h, d), such as 30s or 1h 30m";
    let mut rest = text;
    let mut units = TIMES.iter();
    let mut millis = 0_u64;
    loop {
        let (number, after) = split_number(rest);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
            && unit.is_empty()
            && after.is_empty()
        {
            return Err(RuleFault::new(format!("{text:?} has no unit"))
                .hint(format!("did you mean {text}s? {advice}")));
        }
        let Some((_, scale)) = units.find(|(known, _)| *known == unit) else {
            return Err(fault().hint(advice));
        };
        let number: u64 = number.parse().map_err(|_| fault().hint(advice))?;
        millis = number
            .checked_mul(*scale)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| RuleFault::new(format!("{text:?} is too long")))?;
        rest = after.trim_start_matches(' ');
        if after.is_empty() {
            return Ok(Duration::from_millis(millis));
        }
    }
}

/// A duration in the largest units, exact to the millisecond.
pub fn print_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut parts = Vec::new();
    for (unit, scale) in TIMES {
        if rest >= scale {
            parts.push(format!("{}{unit}", rest / scale));
            rest %= scale;
        }
    }
    parts.join(" ")
}

/// The leading digits and dots, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()))
}

/// Thousandths, of a number with at most three decimals.
fn parse_decimal(text: &str) -> Option<u128> {
    let (whole, decimals) = text.split_once('.').map_or((text, None), |(whole, rest)| (whole, Some(rest)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || decimals.is_some_and(|decimals| !digits(decimals) || decimals.len() > 3) {
        return None;
    }
    let decimals: u128 = format!("{:0<3}", decimals.unwrap_or_default()).parse().ok()?;
    Some(u128::from(whole.parse::<u64>().ok()?) * 1000 + decimals)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        for (text, bytes) in [
            ("512Mi", 512 << 20),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("1G", 1_000_000_000),
            ("3k", 3000),
            ("1048576", 1 << 20),
            ("0.5Ki", 512),
            ("1000000000000001", 1_000_000_000_000_001),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_with_wrong_units_get_the_right_one_as_advice() {
        for (text, advice) in [
            ("512MB", "512Mi"),
            ("512m", "512Mi"),
            ("1gb", "1Gi"),
            ("64K", "64Ki"),
            ("10B", "without a unit: 10"),
        ] {
            let fault = parse_bytes(text).unwrap_err();
            assert!(fault.hint.unwrap().contains(advice), "{text}");
        }
        for bad in [
            "",
            "Mi",
            "-1Mi",
            "1..5Gi",
            "1 Gi",
            "1e3",
            "0.0001Ki",
            "99999999999Ti",
            "9999999999999999999",
            "1Pi",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpu_is_read_in_cores_and_thousandths() {
        for (text, millis) in [("0.5", 500), ("500m", 500), ("1", 1000), ("2.125", 2125), ("0", 0)] {
            assert_eq!(parse_cpu(text), Ok(millis), "{text}");
        }
        for bad in ["", "m", ".5", "0.0001", "1,5", "-1", "1.5m", "5000000", "half", "99999999999999999999m"]
        {
            assert!(parse_cpu(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_with_units_in_order() {
        for (text, millis) in [
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in
            ["", "s", "1x", "1m 1h", "1s 1s", "1s ", " 1s", "1.5s", "-1s", "1h,2m", "999999999999999999d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
        assert!(parse_duration("30").unwrap_err().hint.unwrap().starts_with("did you mean 30s?"));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes in 0..=i64::MAX.unsigned_abs(), millis: u32, time in 0..u64::from(u32::MAX)) {
            prop_assert_eq!(parse_bytes(&print_bytes(bytes)), Ok(bytes));
            prop_assert_eq!(parse_bytes(&print_bytes(bytes >> 20 << 20)), Ok(bytes >> 20 << 20));
            prop_assert_eq!(parse_cpu(&print_cpu(millis)), Ok(millis));
            let time = Duration::from_millis(time);
            prop_assert_eq!(parse_duration(&print_duration(time)), Ok(time));
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            let _ = (parse_bytes(&text), parse_cpu(&text), parse_duration(&text));
        }
    }
}
