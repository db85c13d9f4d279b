//! Arithmetic on resources: what an agent has, what is offered, what a task takes. Scalars are kept in
//! thousandths, because Mesos itself keeps three decimals, so that sums come out even.

use std::{collections::BTreeMap, fmt::Write as _};

use overlord_mesos::v1::{AllocationInfo, Range, Ranges, Resource, Scalar, ValueType};

/// The order in which Mesos lists resources in offers.
const ORDER: [&str; 4] = ["ports", "cpus", "mem", "disk"];

/// Unreserved resources, without a role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pool {
    scalars: BTreeMap<String, i64>,
    ranges: BTreeMap<String, Vec<(u64, u64)>>,
}

/// Why resources cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BadResource {
    /// The text Mesos answers with.
    Invalid(String),
    /// Reserved, of another role, or of a kind that no agent here has: never part of an offer.
    Foreign,
}

impl Pool {
    pub(crate) fn add_scalar(&mut self, name: &str, value: f64) {
        let milli = to_milli(value);
        if milli > 0 {
            *self.scalars.entry(name.to_owned()).or_default() += milli;
        }
    }

    pub(crate) fn add_range(&mut self, name: &str, begin: u64, end: u64) {
        if begin <= end {
            let ranges = self.ranges.entry(name.to_owned()).or_default();
            ranges.push((begin, end));
            normalize(ranges);
        }
    }

    /// Reads a task's or executor's resources as meant for `role`; resources that name no role are.
    pub(crate) fn parse(resources: &[Resource], role: &str) -> Result<Self, BadResource> {
        let mut pool = Self::default();
        let mut foreign = false;
        for resource in resources {
            let scalar = resource.scalar.map(|s| s.value);
            match resource.kind {
                ValueType::Scalar => match scalar {
                    Some(value) if value > 0.0 && value.is_finite() => pool.add_scalar(&resource.name, value),
                    Some(value) => {
                        return Err(BadResource::Invalid(format!(
                            "Resource '{}:{value}' is invalid: Invalid scalar resource: value <= 0",
                            resource.name
                        )));
                    }
                    None => return Err(invalid(&resource.name, "Invalid scalar resource")),
                },
                ValueType::Ranges => {
                    let Some(ranges) = &resource.ranges else {
                        return Err(invalid(&resource.name, "Invalid ranges resource"));
                    };
                    for range in &ranges.range {
                        if range.begin > range.end {
                            return Err(invalid(&resource.name, "Invalid ranges resource: begin > end"));
                        }
                        pool.add_range(&resource.name, range.begin, range.end);
                    }
                }
                _ => foreign = true,
            }
            let other_role =
                resource.allocation_info.as_ref().and_then(|a| a.role.as_deref()).is_some_and(|r| r != role);
            let reserved = resource.other.iter().any(|(field, value)| match field.as_str() {
                "role" => value != "*",
                "reservations" => value.as_array().is_some_and(|stack| !stack.is_empty()),
                "disk" | "reservation" | "revocable" | "shared" => true,
                _ => false,
            });
            foreign |= other_role || reserved;
        }
        if foreign { Err(BadResource::Foreign) } else { Ok(pool) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scalars.is_empty() && self.ranges.is_empty()
    }

    /// Whether it is worth an offer: the allocator's `MIN_CPUS` or `MIN_MEM`.
    pub(crate) fn is_allocatable(&self) -> bool {
        self.scalar("cpus") >= 10 || self.scalar("mem") >= 32_000
    }

    /// Thousandths of a scalar.
    pub(crate) fn scalar(&self, name: &str) -> i64 {
        self.scalars.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn contains(&self, other: &Self) -> bool {
        other.scalars.iter().all(|(name, value)| self.scalar(name) >= *value)
            && other.ranges.iter().all(|(name, wanted)| {
                let own = self.ranges.get(name).map_or(&[][..], Vec::as_slice);
                wanted.iter().all(|(begin, end)| {
                    // Normalised ranges do not touch, so a wanted one lies in a single own one.
                    let next = own.partition_point(|(_, own_end)| own_end < begin);
                    own.get(next).is_some_and(|(own_begin, own_end)| own_begin <= begin && end <= own_end)
                })
            })
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, value) in &other.scalars {
            *self.scalars.entry(name.clone()).or_default() += value;
        }
        for (name, added) in &other.ranges {
            let ranges = self.ranges.entry(name.clone()).or_default();
            ranges.extend_from_slice(added);
            normalize(ranges);
        }
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
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
    }

    /// The wire form. `role` becomes `allocation_info`, `old_format` adds `"role": "*"`.
    pub(crate) fn to_wire(&self, role: Option<&str>, old_format: bool) -> Vec<Resource> {
        let mut out = Vec::with_capacity(self.scalars.len() + self.ranges.len());
        for name in self.names() {
            let mut resource = match (self.ranges.get(name), self.scalars.get(name)) {
                (Some(ranges), _) => Resource {
                    name: name.to_owned(),
                    kind: ValueType::Ranges,
                    ranges: Some(Ranges {
                        range: ranges.iter().map(|&(begin, end)| Range { begin, end }).collect(),
                    }),
                    ..Resource::default()
                },
                (None, milli) => Resource {
                    name: name.to_owned(),
                    kind: ValueType::Scalar,
                    scalar: Some(Scalar { value: milli.map_or(0.0, |m| *m as f64 / 1000.0) }),
                    ..Resource::default()
                },
            };
            resource.allocation_info = role.map(|role| AllocationInfo { role: Some(role.to_owned()) });
            if old_format {
                resource.other.insert("role".to_owned(), "*".into());
            }
            out.push(resource);
        }
        out
    }

    /// As Mesos prints resources in messages.
    pub(crate) fn describe(&self, role: &str) -> String {
        describe(&self.to_wire(Some(role), false), role)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let known = ORDER
            .into_iter()
            .filter(|name| self.scalars.contains_key(*name) || self.ranges.contains_key(*name));
        let rest =
            self.ranges.keys().chain(self.scalars.keys()).map(String::as_str).filter(|n| !ORDER.contains(n));
        known.chain(rest)
    }
}

/// As Mesos prints resources in messages, in the order they came, for `role` unless they name one.
pub(crate) fn describe(resources: &[Resource], role: &str) -> String {
    let mut text = String::new();
    for resource in resources {
        if !text.is_empty() {
            text.push_str("; ");
        }
        let role = resource.allocation_info.as_ref().and_then(|a| a.role.as_deref()).unwrap_or(role);
        let _infallible = write!(text, "{}(allocated: {role}):", resource.name);
        if let Some(scalar) = resource.scalar {
            let _infallible = write!(text, "{}", scalar.value);
        }
        if let Some(ranges) = &resource.ranges {
            let ranges: Vec<String> = ranges.range.iter().map(|r| format!("{}-{}", r.begin, r.end)).collect();
            let _infallible = write!(text, "[{}]", ranges.join(", "));
        }
    }
    text
}

fn invalid(name: &str, why: &str) -> BadResource {
    BadResource::Invalid(format!("Resource '{name}' is invalid: {why}"))
}

fn to_milli(value: f64) -> i64 {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(cpus: f64, ports: &[(u64, u64)]) -> Pool {
        let mut pool = Pool::default();
        pool.add_scalar("cpus", cpus);
        for &(begin, end) in ports {
            pool.add_range("ports", begin, end);
        }
        pool
    }

    #[test]
    fn what_is_taken_and_given_back_leaves_the_pool_as_it_was() {
        let whole = pool(8.0, &[(20_000, 20_010)]);
        let part = pool(0.1, &[(20_000, 20_000), (20_005, 20_006)]);
        let mut rest = whole.clone();
        rest.subtract(&part);
        assert_eq!(rest, pool(7.9, &[(20_001, 20_004), (20_007, 20_010)]));
        assert!(!rest.contains(&part));
        rest.add(&part);
        assert_eq!(rest, whole);
    }

    #[test]
    fn a_range_across_a_hole_is_not_contained() {
        let own = pool(1.0, &[(1, 4), (6, 9)]);
        assert!(own.contains(&pool(1.0, &[(6, 9)])));
        assert!(!own.contains(&pool(1.0, &[(4, 6)])));
        assert!(!own.contains(&pool(1.0, &[(10, 11)])));
    }

    #[test]
    fn resources_print_as_mesos_prints_them() {
        let mut own = pool(7.5, &[(20_000, 29_999)]);
        own.add_scalar("mem", 8128.0);
        own.add_scalar("disk", 20_000.0);
        assert_eq!(
            own.describe("*"),
            "ports(allocated: *):[20000-29999]; cpus(allocated: *):7.5; mem(allocated: *):8128; disk(allocated: *):20000"
        );
    }

    #[test]
    fn resources_of_another_role_are_never_part_of_an_offer() {
        let mut resource = Resource::scalar("cpus", 0.1);
        resource.allocation_info = Some(AllocationInfo { role: Some("other".to_owned()) });
        assert_eq!(Pool::parse(&[resource], "*"), Err(BadResource::Foreign));
        let mut old_format = Resource::scalar("cpus", 0.1);
        old_format.other.insert("role".to_owned(), "*".into());
        assert_eq!(Pool::parse(&[old_format], "*"), Ok(pool(0.1, &[])));
    }

    #[test]
    fn a_negative_scalar_is_refused_with_the_text_of_the_master() {
        let refused = Pool::parse(&[Resource::scalar("cpus", -1.0)], "*");
        let text = "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0";
        assert_eq!(refused, Err(BadResource::Invalid(text.to_owned())));
    }
}
