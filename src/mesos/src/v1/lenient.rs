//! Readers for values that come in more than one form: names that may be anything, and whole numbers
//! that other clients write as `5.0` (Mesos takes both).

use std::fmt;

use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// Reads a name through a function; whatever is no text is read as the empty name.
pub(crate) struct Name<F>(pub(crate) F);

impl<'de, T, F: Fn(&str) -> T> Visitor<'de> for Name<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of an enum's value")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        Ok((self.0)(name))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Ok((self.0)(""))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<T, E> {
        Ok((self.0)(""))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<T, E> {
        Ok((self.0)(""))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Ok((self.0)(""))
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok((self.0)(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok((self.0)(""))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok((self.0)(""))
    }
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = i128;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<i128, E> {
        if number.is_finite() {
            Ok(number as i128)
        } else {
            Err(E::invalid_type(Unexpected::Float(number), &self))
        }
    }
}

/// A whole number that fits `T`.
pub(crate) fn whole<'de, T: TryFrom<i128>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let number = deserializer.deserialize_any(Whole)?;
    T::try_from(number).map_err(|_| D::Error::custom(format_args!("{number} is out of range")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::v1::{Capability, CapabilityType, DurationInfo, Range, TaskState};

    #[test]
    fn a_name_that_is_unknown_or_no_text_reads_as_unknown() {
        for odd in
            [json!("TASK_NEW"), json!(7), json!(-1), json!(1.5), json!(null), json!({"a": [1]}), json!([[]])]
        {
            assert_eq!(
                serde_json::from_value::<TaskState>(odd.clone()).unwrap(),
                TaskState::Unknown,
                "{odd}"
            );
        }
        assert_eq!(serde_json::from_value::<TaskState>(json!("TASK_LOST")).unwrap(), TaskState::Lost);
    }

    #[test]
    fn an_empty_or_unknown_capability_is_read_and_written_as_an_empty_object() {
        for text in ["{}", r#"{"type":"QUOTA_V3"}"#] {
            let capability: Capability = serde_json::from_str(text).unwrap();
            assert_eq!(capability.kind, CapabilityType::Unknown);
            assert_eq!(serde_json::to_string(&capability).unwrap(), "{}");
        }
    }

    #[test]
    fn whole_numbers_may_come_as_floats() {
        let duration: DurationInfo = serde_json::from_value(json!({"nanoseconds": 5e9})).unwrap();
        assert_eq!(duration.nanoseconds, 5_000_000_000);
        let range: Range = serde_json::from_value(json!({"begin": 1.0, "end": u64::MAX})).unwrap();
        assert_eq!((range.begin, range.end), (1, u64::MAX));
        for bad in [
            json!({"begin": -1, "end": 1}),
            json!({"begin": "1", "end": 1}),
            json!({"begin": 1e300, "end": 1}),
        ] {
            assert!(serde_json::from_value::<Range>(bad).is_err());
        }
    }
}
