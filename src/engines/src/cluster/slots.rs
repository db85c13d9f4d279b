//! Which slot a key is in, and how the slots are shared out among masters.

use super::{SlotRange, SlotSet};

/// Slots of a redis cluster.
pub const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM (polynomial 0x1021, no reflection), as the cluster specification of redis has it.
const CRC16: [u16; 256] = crc16_table();

const fn crc16_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0_u16;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc << 8 ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The slot of a key. Of a key with a hash tag only what is between the first `{` and the next `}` counts,
/// unless that is nothing.
pub fn key_slot(key: &[u8]) -> u16 {
    crc16(hash_tag(key).unwrap_or(key)) % SLOTS
}

fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let from = key.iter().position(|byte| *byte == b'{')? + 1;
    let rest = key.get(from..)?;
    let tag = rest.get(..rest.iter().position(|byte| *byte == b'}')?)?;
    (!tag.is_empty()).then_some(tag)
}

/// The slots of each of so many masters: every slot once, no two shares differing by more than one, rounded
/// as redis-cli does it (three masters: 0-5460, 5461-10922, 10923-16383). There cannot be more masters with
/// slots than slots: beyond 16384 there are no more ranges.
pub fn slot_ranges(masters: u16) -> Vec<SlotRange> {
    let masters = u64::from(masters.min(SLOTS));
    // The nearest whole number to index * SLOTS / masters.
    let begin = |index: u64| ((2 * index * u64::from(SLOTS) + masters) / (2 * masters)) as u16;
    (0..masters).map(|index| begin(index)..=begin(index + 1) - 1).collect()
}

/// Number and digest of slots, `<number>:<FNV-1a of the ranges>`: what an executor reports instead of the slots
/// themselves. None without slots.
pub fn slots_digest(slots: &SlotSet) -> Option<String> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in slots.to_string().bytes().chain([b' ']) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (!slots.is_empty()).then(|| format!("{}:{hash:016x}", slots.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_owned_once_and_shares_differ_by_at_most_one() {
        for masters in (1..=1100).chain([16_383, 16_384]) {
            let ranges = slot_ranges(masters);
            assert_eq!(ranges.len(), usize::from(masters));
            let mut next = 0;
            for range in &ranges {
                assert_eq!(*range.start(), next, "{masters}");
                next = range.end() + 1;
            }
            assert_eq!(next, SLOTS, "{masters}");
            let sizes = || ranges.iter().map(ExactSizeIterator::len);
            assert!(sizes().min() >= Some(1) && sizes().max() <= sizes().min().map(|size| size + 1));
        }
    }

    #[test]
    fn shares_are_those_of_redis_cli() {
        assert_eq!(slot_ranges(3), [0..=5460, 5461..=10_922, 10_923..=16_383]);
        assert_eq!(slot_ranges(4), [0..=4095, 4096..=8191, 8192..=12_287, 12_288..=16_383]);
    }

    #[test]
    fn equal_slots_have_equal_digests() {
        let digest = |ranges: &[SlotRange]| slots_digest(&ranges.iter().cloned().collect());
        assert_eq!(digest(&[0..=5460]).as_deref(), Some("5461:2b1d08058fb1ee2b"));
        assert_eq!(digest(&[0..=5459, 5461..=5461]).as_deref(), Some("5461:bba8e70073d028a9"));
        assert_eq!(digest(&[5461..=5461, 0..=5459]), digest(&[0..=5459, 5461..=5461]));
        assert_eq!(digest(&[]), None);
    }

    #[test]
    fn counts_that_make_no_sense_do_not_panic() {
        assert!(slot_ranges(0).is_empty());
        assert_eq!(slot_ranges(u16::MAX).len(), usize::from(SLOTS));
    }

    #[test]
    fn keys_are_in_the_slots_that_redis_says() {
        // CLUSTER KEYSLOT of redis 7.0.15.
        for (key, slot) in [
            ("", 0),
            ("foo", 12_182),
            ("123456789", 12_739),
            ("{user1000}.following", 3443),
            ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363),
            ("foo{{bar}}zap", 4015),
            ("foo{bar}{zap}", 5061),
            ("{", 4092),
            ("}{", 12_793),
            ("a{b", 13_340),
            ("{}", 15_257),
            ("ключ", 10_303),
        ] {
            assert_eq!(key_slot(key.as_bytes()), slot, "{key}");
        }
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
