//! Arithmetic on resources: what an agent has, what is offered, what a task takes. Resources add up as far as
//! their marks (reservations, volumes) are equal, and are given back exactly as they were taken.

mod amounts;
pub(crate) mod check;
mod marks;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;

use amounts::{Amounts, to_milli};
pub(crate) use marks::Marks;
use overlord_mesos::v1::Resource;
pub(crate) use wire::{Format, describe};

/// Resources of one agent, without the role they are offered to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pool {
    /// No part is empty.
    parts: BTreeMap<Marks, Amounts>,
}

/// What a framework understands of marked resources.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each capability, and none excludes another")]
pub(crate) struct Understands {
    pub(crate) refined: bool,
    pub(crate) shared: bool,
    pub(crate) revocable: bool,
    pub(crate) gpus: bool,
}

/// Why resources cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadResource {
    /// The text Mesos answers with.
    Invalid(String),
    /// Allocated to another role: never part of an offer.
    Foreign,
}

impl Pool {
    pub(crate) fn add_scalar(&mut self, name: &str, value: f64) {
        self.add_marked_scalar(&Marks::default(), name, value);
    }

    pub(crate) fn add_marked_scalar(&mut self, marks: &Marks, name: &str, value: f64) {
        let milli = to_milli(value);
        if milli > 0 {
            self.parts.entry(marks.clone()).or_default().add_scalar(name, milli);
        }
    }

    pub(crate) fn add_range(&mut self, name: &str, begin: u64, end: u64) {
        self.add_marked_range(&Marks::default(), name, begin, end);
    }

    pub(crate) fn add_marked_range(&mut self, marks: &Marks, name: &str, begin: u64, end: u64) {
        if begin <= end {
            self.parts.entry(marks.clone()).or_default().add_range(name, begin, end);
        }
    }

    /// Reads resources as meant for `role`; resources that name no role are.
    pub(crate) fn parse(resources: &[Resource], role: &str) -> Result<Self, BadResource> {
        if let Some(text) = check::resources_fault(resources) {
            return Err(BadResource::Invalid(text));
        }
        let other_role = |resource: &Resource| {
            resource.allocation_info.as_ref().and_then(|a| a.role.as_deref()).is_some_and(|r| r != role)
        };
        if resources.iter().any(other_role) {
            return Err(BadResource::Foreign);
        }
        Ok(Self::read(resources))
    }

    /// Reads resources that are valid, whatever role they are for.
    pub(crate) fn read(resources: &[Resource]) -> Self {
        let mut pool = Self::default();
        for resource in resources {
            let amounts = pool.parts.entry(Marks::of(resource)).or_default();
            if let Some(scalar) = resource.scalar {
                amounts.add_scalar(&resource.name, to_milli(scalar.value));
            }
            for range in resource.ranges.iter().flat_map(|ranges| &ranges.range) {
                amounts.add_range(&resource.name, range.begin, range.end);
            }
            if let Some(set) = &resource.set {
                amounts.add_items(&resource.name, &set.item);
            }
        }
        pool.parts.retain(|_, amounts| !amounts.is_empty());
        pool
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether it is worth an offer: the allocator's `MIN_CPUS` or `MIN_MEM`.
    pub(crate) fn is_allocatable(&self) -> bool {
        self.scalar("cpus") >= 10 || self.scalar("mem") >= 32_000
    }

    /// Thousandths of a scalar, whatever its marks.
    pub(crate) fn scalar(&self, name: &str) -> i64 {
        self.parts.values().filter_map(|amounts| amounts.scalars.get(name)).sum()
    }

    pub(crate) fn contains(&self, other: &Self) -> bool {
        other
            .parts
            .iter()
            .all(|(marks, wanted)| self.parts.get(marks).is_some_and(|own| own.contains(wanted)))
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (marks, amounts) in &other.parts {
            if marks.is_shared() {
                // A shared volume is there or not, however many use it.
                self.parts.insert(marks.clone(), amounts.clone());
            } else {
                self.parts.entry(marks.clone()).or_default().add(amounts);
            }
        }
    }

    /// Takes resources away; shared ones stay, for others to use as well.
    pub(crate) fn subtract(&mut self, other: &Self) {
        for (marks, amounts) in &other.parts {
            if !marks.is_shared() {
                self.remove_part(marks, amounts);
            }
        }
    }

    /// Takes resources away, shared ones too: they exist no more.
    pub(crate) fn destroy(&mut self, other: &Self) {
        for (marks, amounts) in &other.parts {
            self.remove_part(marks, amounts);
        }
    }

    fn remove_part(&mut self, marks: &Marks, amounts: &Amounts) {
        let Some(own) = self.parts.get_mut(marks) else { return };
        own.subtract(amounts);
        if own.is_empty() {
            self.parts.remove(marks);
        }
    }

    /// What of it may be offered to a role: what is not reserved, and what is reserved for it or a role above it.
    pub(crate) fn offerable(&self, role: &str, understands: Understands) -> Self {
        let fits = |marks: &Marks| {
            if marks.is_plain() {
                return true;
            }
            let reserved = marks.role();
            reserved.is_none_or(|reserved| super::roles::is_within(role, &reserved))
                && (understands.refined || !marks.is_refined())
                && (understands.shared || !marks.is_shared())
                && (understands.revocable || !marks.is_revocable())
        };
        if !understands.gpus && self.scalar("gpus") > 0 {
            return Self::default();
        }
        let parts = self.parts.iter().filter(|(marks, _)| fits(marks));
        Self { parts: parts.map(|(marks, amounts)| (marks.clone(), amounts.clone())).collect() }
    }

    /// Only what is reserved for exactly this role, or, for none, what is not reserved.
    pub(crate) fn reserved_for(&self, role: Option<&str>) -> Self {
        let parts = self.parts.iter().filter(|(marks, _)| marks.role().as_deref() == role);
        Self { parts: parts.map(|(marks, amounts)| (marks.clone(), amounts.clone())).collect() }
    }

    /// The roles something is reserved for.
    pub(crate) fn reservation_roles(&self) -> std::collections::BTreeSet<String> {
        self.parts.keys().filter_map(Marks::role).collect()
    }

    /// The same amounts under other marks.
    pub(crate) fn remarked(&self, change: impl Fn(&Marks) -> Marks) -> Self {
        let mut pool = Self::default();
        for (marks, amounts) in &self.parts {
            pool.parts.entry(change(marks)).or_default().add(amounts);
        }
        pool
    }

    pub(crate) fn marks(&self) -> impl Iterator<Item = &Marks> {
        self.parts.keys()
    }

    /// Replaces `consumed` by `converted`; `false`, and no change, if it does not hold all of `consumed`.
    pub(crate) fn convert(&mut self, consumed: &Self, converted: &Self) -> bool {
        if !self.contains(consumed) {
            return false;
        }
        self.destroy(consumed);
        self.add(converted);
        true
    }
}
