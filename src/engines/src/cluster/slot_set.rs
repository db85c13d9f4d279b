//! Sets of slots.

use std::{
    fmt,
    ops::{BitAnd, BitOr, RangeInclusive, Sub},
};

use super::SLOTS;

/// Slots from the first to the last.
pub type SlotRange = RangeInclusive<u16>;

const WORDS: usize = SLOTS as usize / 64;

type Words = [u64; WORDS];

static NONE: Words = [0; WORDS];

/// A set of slots. Slots beyond 16383 do not exist and are left out.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SlotSet {
    /// None when empty, as the set of each replica is; never a box of zeros, so that equal sets are equal.
    words: Option<Box<Words>>,
}

impl SlotSet {
    /// No slot.
    pub const fn new() -> Self {
        Self { words: None }
    }

    /// Every slot.
    pub fn all() -> Self {
        Self { words: Some(Box::new([u64::MAX; WORDS])) }
    }

    fn words(&self) -> &Words {
        self.words.as_deref().unwrap_or(&NONE)
    }

    fn with(&self, other: &Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = Box::new(*self.words());
        for (word, other) in words.iter_mut().zip(other.words()) {
            *word = each(*word, *other);
        }
        Self { words: (*words != NONE).then_some(words) }
    }

    /// Adds the slots of a range.
    pub fn insert(&mut self, range: SlotRange) {
        let (first, last) = (usize::from(*range.start()), usize::from((*range.end()).min(SLOTS - 1)));
        if first > last {
            return;
        }
        let words = self.words.get_or_insert_with(|| Box::new(NONE));
        for (index, word) in words.iter_mut().enumerate().take(last / 64 + 1).skip(first / 64) {
            let low = first.saturating_sub(index * 64);
            let high = (last - index * 64).min(63);
            *word |= u64::MAX << low & u64::MAX >> (63 - high);
        }
    }

    /// Adds the slots of another set.
    pub fn extend(&mut self, other: &Self) {
        let Some(more) = &other.words else { return };
        let words = self.words.get_or_insert_with(|| Box::new(NONE));
        for (word, more) in words.iter_mut().zip(more.iter()) {
            *word |= more;
        }
    }

    /// Whether a slot is in it.
    pub fn contains(&self, slot: u16) -> bool {
        self.words().get(usize::from(slot / 64)).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    /// How many slots.
    pub fn len(&self) -> u16 {
        self.words().iter().map(|word| word.count_ones() as u16).sum()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.words.is_none()
    }

    /// Whether every slot of it is in another set too.
    pub fn is_subset(&self, other: &Self) -> bool {
        (self - other).is_empty()
    }

    /// The lowest slot.
    pub fn first(&self) -> Option<u16> {
        self.next(0, true)
    }

    /// The slots as the fewest ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = SlotRange> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let first = self.next(from, true)?;
            let end = self.next(first, false).unwrap_or(SLOTS);
            from = end;
            Some(first..=end - 1)
        })
    }

    /// The lowest slot from `from` on that is, or is not, in it.
    fn next(&self, from: u16, within: bool) -> Option<u16> {
        let words = self.words();
        let mut mask = u64::MAX << (from % 64);
        for (index, word) in words.iter().enumerate().skip(usize::from(from / 64)) {
            let found = if within { *word } else { !*word } & mask;
            if found != 0 {
                return Some(index as u16 * 64 + found.trailing_zeros() as u16);
            }
            mask = u64::MAX;
        }
        None
    }
}

impl BitOr for &SlotSet {
    type Output = SlotSet;

    fn bitor(self, other: Self) -> SlotSet {
        self.with(other, |one, other| one | other)
    }
}

impl BitAnd for &SlotSet {
    type Output = SlotSet;

    fn bitand(self, other: Self) -> SlotSet {
        self.with(other, |one, other| one & other)
    }
}

impl Sub for &SlotSet {
    type Output = SlotSet;

    fn sub(self, other: Self) -> SlotSet {
        self.with(other, |one, other| one & !other)
    }
}

impl From<SlotRange> for SlotSet {
    fn from(range: SlotRange) -> Self {
        Self::from_iter([range])
    }
}

impl FromIterator<SlotRange> for SlotSet {
    fn from_iter<I: IntoIterator<Item = SlotRange>>(ranges: I) -> Self {
        let mut set = Self::new();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

/// As redis writes them: `0-5460 5462`.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges().enumerate() {
            let space = if index == 0 { "" } else { " " };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{space}{first}")?,
                (first, last) => write!(f, "{space}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The same in a way that is slow and plain.
    fn plain(set: &SlotSet) -> BTreeSet<u16> {
        set.ranges().flatten().collect()
    }

    #[expect(clippy::reversed_empty_ranges, reason = "an empty range adds nothing")]
    #[test]
    fn slots_that_do_not_exist_are_left_out() {
        let mut set = SlotSet::from(16_380..=u16::MAX);
        assert_eq!((set.len(), set.contains(16_383), set.contains(16_384)), (4, true, false));
        set.insert(20_000..=30_000);
        assert_eq!(set.to_string(), "16380-16383");
        assert_eq!(SlotSet::from(7..=6), SlotSet::new());
        assert_eq!((SlotSet::all().len(), SlotSet::new().first()), (SLOTS, None));
    }

    #[test]
    fn what_was_emptied_equals_what_never_had_a_slot() {
        assert_eq!(&SlotSet::all() - &SlotSet::from(0..=16_383), SlotSet::new());
        assert_eq!(SlotSet::new().to_string(), "");
    }

    fn ranges() -> impl Strategy<Value = Vec<SlotRange>> {
        let range = (0..SLOTS, 0..700_u16);
        proptest::collection::vec(
            range.prop_map(|(first, more)| first..=(first + more).min(SLOTS - 1)),
            0..12,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_does_what_a_plain_set_does(one in ranges(), other in ranges()) {
            let (a, b) = (SlotSet::from_iter(one.clone()), SlotSet::from_iter(other.clone()));
            let (pa, pb): (BTreeSet<u16>, BTreeSet<u16>) =
                (one.into_iter().flatten().collect(), other.into_iter().flatten().collect());
            prop_assert_eq!(plain(&a), pa.clone());
            prop_assert_eq!(usize::from(a.len()), pa.len());
            prop_assert_eq!(a.first(), pa.first().copied());
            prop_assert_eq!(plain(&(&a | &b)), &pa | &pb);
            prop_assert_eq!(plain(&(&a & &b)), &pa & &pb);
            prop_assert_eq!(plain(&(&a - &b)), &pa - &pb);
            prop_assert_eq!(a.is_subset(&b), pa.is_subset(&pb));
            prop_assert_eq!(a == b, pa == pb);
            let mut both = a.clone();
            both.extend(&b);
            prop_assert_eq!(both, &a | &b);
            prop_assert!((0..SLOTS).all(|slot| a.contains(slot) == pa.contains(&slot)));
        }
    }
}
