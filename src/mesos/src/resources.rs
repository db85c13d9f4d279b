//! Arithmetic on resources. What is taken from an offer keeps everything that marks it (allocation, stack
//! of reservations): the master subtracts resource by resource, and refuses what it did not offer.
//!
//! Scalars are fixed-point with three decimals, as in Mesos (`Value::Scalar`, src/common/values.cpp).

use std::collections::BTreeMap;

use crate::v1::{DiskInfo, Offer, Range, Ranges, Resource, Scalar, ValueType};

/// Beyond this a scalar is taken for nonsense and counts as this.
const MAX_MILLI: f64 = 1e15;

fn to_milli(value: f64) -> i64 {
    if value.is_nan() { 0 } else { (value.clamp(-MAX_MILLI, MAX_MILLI) * 1000.0).round() as i64 }
}

fn from_milli(milli: i64) -> f64 {
    milli as f64 / 1000.0
}

/// How much a task or an executor takes; `mem` and `disk` in MiB.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// CPUs.
    pub cpus: f64,
    /// Memory, MiB.
    pub mem: f64,
    /// Disk, MiB.
    pub disk: f64,
    /// Exactly these ports.
    pub ports: Vec<u16>,
}

/// Plain resources of one role; `mem` and `disk` in MiB.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Totals {
    /// CPUs.
    pub cpus: f64,
    /// Memory, MiB.
    pub mem: f64,
    /// Disk, MiB.
    pub disk: f64,
    /// Ports, as sorted ranges that do not touch.
    pub ports: Vec<Range>,
}

/// What was cut out, and what is left.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Carved {
    /// For `TaskInfo.resources`.
    pub task: Vec<Resource>,
    /// For `ExecutorInfo.resources`.
    pub executor: Vec<Resource>,
    /// Still on offer.
    pub remainder: Vec<Resource>,
}

/// Why a request cannot be met from an offer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CarveError {
    /// Too little of a scalar.
    #[error("{name}: {wanted} wanted, {offered} offered")]
    Short {
        /// `cpus`, `mem` or `disk`.
        name: &'static str,
        /// For task and executor.
        wanted: f64,
        /// Plain resources only.
        offered: f64,
    },
    /// A port is not in the offer.
    #[error("port {port} is not offered")]
    Port {
        /// Which one.
        port: u16,
    },
    /// A number that is no amount.
    #[error("{name}: {wanted} is no amount")]
    BadAmount {
        /// `cpus`, `mem` or `disk`.
        name: &'static str,
        /// As wanted.
        wanted: f64,
    },
    /// Offers of several agents, or of several roles: one ACCEPT cannot use them together.
    #[error("offers of several agents or roles cannot be used together")]
    Mixed,
    /// There is nothing to carve from.
    #[error("no offer")]
    Nothing,
}

/// The plain resources by role. Special ones (see [`is_plain`]) are left out.
pub fn totals(resources: &[Resource]) -> BTreeMap<String, Totals> {
    let mut milli: BTreeMap<String, ([i64; 3], Vec<Range>)> = BTreeMap::new();
    for resource in resources.iter().filter(|resource| is_plain(resource)) {
        let (scalars, ports) = milli.entry(role_of(resource).to_owned()).or_default();
        match (resource.name.as_str(), &resource.scalar, &resource.ranges) {
            ("cpus", Some(scalar), _) => scalars[0] += to_milli(scalar.value).max(0),
            ("mem", Some(scalar), _) => scalars[1] += to_milli(scalar.value).max(0),
            ("disk", Some(scalar), _) => scalars[2] += to_milli(scalar.value).max(0),
            ("ports", _, Some(ranges)) => ports.extend(&ranges.range),
            _ => {}
        }
    }
    milli
        .into_iter()
        .map(|(role, ([cpus, mem, disk], ports))| {
            let totals = Totals {
                cpus: from_milli(cpus),
                mem: from_milli(mem),
                disk: from_milli(disk),
                ports: merge(ports),
            };
            (role, totals)
        })
        .collect()
}

/// Whether a resource can be used for anything: no volume, no disk with a source, not revocable, not
/// shared, nothing that this build does not know. It may be reserved, but for its own role only.
pub fn is_plain(resource: &Resource) -> bool {
    resource.provider_id.is_none()
        && resource.disk.as_ref().is_none_or(|disk| *disk == DiskInfo::default())
        && resource.revocable.is_none()
        && resource.shared.is_none()
        && resource.other.values().all(serde_json::Value::is_null)
        && reserved_for(resource).is_none_or(|role| is_within(role_of(resource), role))
}

/// The role a resource is reserved for: that of the topmost reservation of the stack.
pub fn reserved_for(resource: &Resource) -> Option<&str> {
    match resource.reservations.last() {
        Some(reservation) => reservation.role.as_deref(),
        None => resource.role.as_deref(),
    }
    .filter(|role| *role != "*")
}

/// Whether `role` is `of`, or one below it: what is reserved for `a` is offered to `a/b` too.
fn is_within(role: &str, of: &str) -> bool {
    role.strip_prefix(of).is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// The role a resource is allocated to.
pub fn role_of(resource: &Resource) -> &str {
    resource.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or("*")
}

/// The resources of several offers that one ACCEPT may use: of one agent, for one role.
pub fn combine(offers: &[Offer]) -> Result<Vec<Resource>, CarveError> {
    let Some(first) = offers.first() else { return Err(CarveError::Nothing) };
    let same = |offer: &Offer| {
        offer.agent_id == first.agent_id && crate::offers::role_of(offer) == crate::offers::role_of(first)
    };
    if !offers.iter().all(same) {
        return Err(CarveError::Mixed);
    }
    Ok(sum(offers.iter().flat_map(|offer| offer.resources.iter().cloned())))
}

/// Cuts a task and its executor out of offered resources: reserved ones first, the most refined of them
/// before all others, since fewest others can use them. Zero amounts are left out, as Mesos wants it.
pub fn carve(offered: &[Resource], task: &Request, executor: &Request) -> Result<Carved, CarveError> {
    let mut rest: Vec<Resource> = offered.to_vec();
    rest.sort_by_key(|resource| std::cmp::Reverse(depth(resource)));
    if rest.iter().any(|resource| role_of(resource) != role_of(&rest[0])) {
        return Err(CarveError::Mixed);
    }
    let scalars: [(&'static str, f64, f64); 3] = [
        ("cpus", task.cpus, executor.cpus),
        ("mem", task.mem, executor.mem),
        ("disk", task.disk, executor.disk),
    ];
    let mut carved = Carved::default();
    for (name, for_task, for_executor) in scalars {
        for wanted in [for_task, for_executor] {
            if !(0.0..=MAX_MILLI / 1000.0).contains(&wanted) {
                return Err(CarveError::BadAmount { name, wanted });
            }
        }
        let (for_task, for_executor) = (to_milli(for_task), to_milli(for_executor));
        let on_offer: i64 = plain_scalars(&rest, name).map(|scalar| to_milli(scalar.value).max(0)).sum();
        if for_task + for_executor > on_offer {
            return Err(CarveError::Short {
                name,
                wanted: from_milli(for_task + for_executor),
                offered: from_milli(on_offer),
            });
        }
        carved.task.extend(cut_scalar(&mut rest, name, for_task));
        carved.executor.extend(cut_scalar(&mut rest, name, for_executor));
    }
    carved.task.extend(cut_ports(&mut rest, &task.ports)?);
    carved.executor.extend(cut_ports(&mut rest, &executor.ports)?);
    carved.remainder = sum(rest);
    Ok(carved)
}

/// Adds resources up: those that differ in their amount only become one, empty ones disappear.
pub fn sum(resources: impl IntoIterator<Item = Resource>) -> Vec<Resource> {
    let mut total: Vec<Resource> = Vec::new();
    for resource in resources {
        if let Some(same) = total.iter_mut().find(|other| same_kind(other, &resource)) {
            add(same, resource);
        } else {
            total.push(normal(resource));
        }
    }
    total.retain(|resource| !is_empty(resource));
    total
}

/// What is left of `whole` without `part`, or nothing when it does not hold all of it.
pub fn subtract(whole: &[Resource], part: &[Resource]) -> Option<Vec<Resource>> {
    let mut rest = sum(whole.iter().cloned());
    for resource in sum(part.iter().cloned()) {
        if !is_plain(&resource) {
            // Volumes and the like have an identity: all of one or nothing.
            let index = rest.iter().position(|other| other == &resource)?;
            rest.remove(index);
            continue;
        }
        let from = rest.iter_mut().find(|other| same_kind(other, &resource))?;
        if !take_from(from, &resource) {
            return None;
        }
    }
    rest.retain(|resource| !is_empty(resource));
    Some(rest)
}

/// How refined a reservation is; 0 for none.
fn depth(resource: &Resource) -> usize {
    resource.reservations.len().max(usize::from(reserved_for(resource).is_some()))
}

fn plain_scalars(resources: &[Resource], name: &str) -> impl Iterator<Item = Scalar> {
    resources
        .iter()
        .filter(move |resource| resource.name == name && is_plain(resource))
        .filter_map(|resource| resource.scalar)
}

/// Takes `milli` of a scalar out of the plain resources of that name.
fn cut_scalar(resources: &mut [Resource], name: &str, mut milli: i64) -> Vec<Resource> {
    let mut taken = Vec::new();
    for resource in resources.iter_mut().filter(|resource| resource.name == name && is_plain(resource)) {
        let Some(scalar) = &mut resource.scalar else { continue };
        let here = to_milli(scalar.value).clamp(0, milli);
        if here > 0 {
            scalar.value = from_milli(to_milli(scalar.value) - here);
            milli -= here;
            taken.push(Resource { scalar: Some(Scalar { value: from_milli(here) }), ..resource.clone() });
        }
    }
    taken
}

fn cut_ports(resources: &mut [Resource], ports: &[u16]) -> Result<Vec<Resource>, CarveError> {
    let mut taken: Vec<Resource> = Vec::new();
    for &port in ports {
        let single = Range { begin: port.into(), end: port.into() };
        let from = resources
            .iter_mut()
            .filter(|resource| resource.name == "ports" && is_plain(resource))
            .find_map(|resource| {
                let rest = without(&resource.ranges.as_ref()?.range, single)?;
                resource.ranges = Some(Ranges { range: rest });
                Some(&*resource)
            });
        let Some(from) = from else { return Err(CarveError::Port { port }) };
        taken.push(Resource { ranges: Some(Ranges { range: vec![single] }), ..from.clone() });
    }
    Ok(sum(taken))
}

/// Whether two resources differ in their amount only, and can be added up.
fn same_kind(a: &Resource, b: &Resource) -> bool {
    a.name == b.name
        && a.kind == b.kind
        && a.allocation_info == b.allocation_info
        && a.role == b.role
        && a.reservation == b.reservation
        && a.reservations == b.reservations
        && is_plain(a)
        && is_plain(b)
}

fn normal(mut resource: Resource) -> Resource {
    if let Some(ranges) = &mut resource.ranges {
        ranges.range = merge(std::mem::take(&mut ranges.range));
    }
    resource
}

fn add(to: &mut Resource, more: Resource) {
    if let Some(more) = more.scalar {
        let sum = to_milli(to.scalar.unwrap_or_default().value) + to_milli(more.value);
        to.scalar = Some(Scalar { value: from_milli(sum) });
    }
    if let Some(more) = more.ranges {
        let ranges = to.ranges.get_or_insert_default();
        ranges.range = merge(ranges.range.iter().copied().chain(more.range));
    }
    if let Some(more) = more.set {
        let set = to.set.get_or_insert_default();
        set.item.extend(more.item);
        set.item.sort();
        set.item.dedup();
    }
}

/// Takes one resource out of another of the same kind, if it holds all of it.
fn take_from(from: &mut Resource, part: &Resource) -> bool {
    match from.kind {
        ValueType::Scalar => {
            let have = to_milli(from.scalar.unwrap_or_default().value);
            let want = to_milli(part.scalar.unwrap_or_default().value);
            from.scalar = Some(Scalar { value: from_milli(have - want) });
            want <= have
        }
        ValueType::Ranges => {
            let mut rest = from.ranges.take().unwrap_or_default().range;
            for range in part.ranges.iter().flat_map(|ranges| &ranges.range) {
                let Some(left) = without(&rest, *range) else { return false };
                rest = left;
            }
            from.ranges = Some(Ranges { range: rest });
            true
        }
        ValueType::Set => {
            let have = from.set.get_or_insert_default();
            let want = part.set.iter().flat_map(|set| &set.item);
            for item in want {
                let Some(index) = have.item.iter().position(|other| other == item) else { return false };
                have.item.remove(index);
            }
            true
        }
        ValueType::Text | ValueType::Unknown => false,
    }
}

fn is_empty(resource: &Resource) -> bool {
    match resource.kind {
        ValueType::Scalar => to_milli(resource.scalar.unwrap_or_default().value) <= 0,
        ValueType::Ranges => resource.ranges.as_ref().is_none_or(|ranges| ranges.range.is_empty()),
        ValueType::Set => resource.set.as_ref().is_none_or(|set| set.item.is_empty()),
        ValueType::Text | ValueType::Unknown => false,
    }
}

/// Sorted ranges that neither overlap nor touch; those that end before they begin are dropped.
pub fn merge(ranges: impl IntoIterator<Item = Range>) -> Vec<Range> {
    let mut sorted: Vec<_> = ranges.into_iter().filter(|range| range.begin <= range.end).collect();
    sorted.sort_by_key(|range| (range.begin, range.end));
    let mut merged: Vec<Range> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.begin <= last.end.saturating_add(1) => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// The ranges without `cut`, if one of them holds all of it.
fn without(ranges: &[Range], cut: Range) -> Option<Vec<Range>> {
    let mut rest = merge(ranges.iter().copied());
    let index = rest.iter().position(|range| range.begin <= cut.begin && cut.end <= range.end)?;
    let holder = rest.remove(index);
    if cut.end < holder.end {
        rest.insert(index, Range { begin: cut.end + 1, end: holder.end });
    }
    if holder.begin < cut.begin {
        rest.insert(index, Range { begin: holder.begin, end: cut.begin - 1 });
    }
    Some(rest)
}

#[cfg(test)]
mod tests;
