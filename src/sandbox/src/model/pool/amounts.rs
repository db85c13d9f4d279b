//! Amounts by name: scalars in thousandths, because Mesos itself keeps three decimals, so that sums come out
//! even; ranges that neither overlap nor touch; sets.

use std::collections::{BTreeMap, BTreeSet};

/// How much of each name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Amounts {
    pub(super) scalars: BTreeMap<String, i64>,
    pub(super) ranges: BTreeMap<String, Vec<(u64, u64)>>,
    pub(super) sets: BTreeMap<String, BTreeSet<String>>,
}

impl Amounts {
    pub(super) fn is_empty(&self) -> bool {
        self.scalars.is_empty() && self.ranges.is_empty() && self.sets.is_empty()
    }

    pub(super) fn add_scalar(&mut self, name: &str, milli: i64) {
        if milli > 0 {
            *self.scalars.entry(name.to_owned()).or_default() += milli;
        }
    }

    pub(super) fn add_range(&mut self, name: &str, begin: u64, end: u64) {
        if begin <= end {
            let ranges = self.ranges.entry(name.to_owned()).or_default();
            ranges.push((begin, end));
            normalize(ranges);
        }
    }

    pub(super) fn add_items(&mut self, name: &str, items: &[String]) {
        if !items.is_empty() {
            self.sets.entry(name.to_owned()).or_default().extend(items.iter().cloned());
        }
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        other.scalars.iter().all(|(name, value)| self.scalars.get(name).copied().unwrap_or(0) >= *value)
            && other.ranges.iter().all(|(name, wanted)| {
                let own = self.ranges.get(name).map_or(&[][..], Vec::as_slice);
                wanted.iter().all(|(begin, end)| {
                    // Normalised ranges do not touch, so a wanted one lies in a single own one.
                    let next = own.partition_point(|(_, own_end)| own_end < begin);
                    own.get(next).is_some_and(|(own_begin, own_end)| own_begin <= begin && end <= own_end)
                })
            })
            && other
                .sets
                .iter()
                .all(|(name, wanted)| self.sets.get(name).is_some_and(|own| own.is_superset(wanted)))
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, value) in &other.scalars {
            self.add_scalar(name, *value);
        }
        for (name, added) in &other.ranges {
            let ranges = self.ranges.entry(name.clone()).or_default();
            ranges.extend_from_slice(added);
            normalize(ranges);
        }
        for (name, added) in &other.sets {
            self.sets.entry(name.clone()).or_default().extend(added.iter().cloned());
        }
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        for (name, value) in &other.scalars {
            if let Some(own) = self.scalars.get_mut(name) {
                *own -= value;
                if *own <= 0 {
                    self.scalars.remove(name);
                }
            }
        }
        for (name, taken) in &other.ranges {
            if let Some(own) = self.ranges.get_mut(name) {
                *own = without(own, taken);
                if own.is_empty() {
                    self.ranges.remove(name);
                }
            }
        }
        for (name, taken) in &other.sets {
            if let Some(own) = self.sets.get_mut(name) {
                own.retain(|item| !taken.contains(item));
                if own.is_empty() {
                    self.sets.remove(name);
                }
            }
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let all = self.ranges.keys().chain(self.scalars.keys()).chain(self.sets.keys());
        all.map(String::as_str)
    }
}

pub(super) fn to_milli(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

fn normalize(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for &(begin, end) in ranges.iter() {
        match merged.last_mut() {
            Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
            _ => merged.push((begin, end)),
        }
    }
    *ranges = merged;
}

fn without(own: &[(u64, u64)], taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut left = own.to_vec();
    for &(begin, end) in taken {
        let mut next = Vec::with_capacity(left.len() + 1);
        for (own_begin, own_end) in left {
            if end < own_begin || own_end < begin {
                next.push((own_begin, own_end));
                continue;
            }
            if own_begin < begin {
                next.push((own_begin, begin - 1));
            }
            if end < own_end {
                next.push((end + 1, own_end));
            }
        }
        left = next;
    }
    left
}
