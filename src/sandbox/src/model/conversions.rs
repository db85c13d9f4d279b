//! Operations that turn resources of an agent into others: reservations and volumes. Checked as the master checks
//! them, applied to what an offer left or to what is free.

use overlord_mesos::v1::{CapabilityType, FrameworkInfo, Resource, Scalar};

use super::{
    pool::{Marks, Pool, check, describe},
    task_faults::mixed_roles,
};
use overlord_mesos::v1::scheduler::{Operation, OperationType};

/// What an operation takes, and what it makes of it.
pub(super) struct Conversion {
    pub(super) consumed: Pool,
    pub(super) converted: Pool,
}

/// Who wants the operation.
pub(super) enum Who<'a> {
    Framework(&'a FrameworkInfo),
    Operator,
}

/// What an operation does to resources.
pub(super) fn conversion(operation: &Operation) -> Option<Conversion> {
    match operation.kind {
        OperationType::Reserve => {
            let reserve = operation.reserve.as_ref()?;
            let converted = Pool::read(&reserve.resources);
            let consumed = if reserve.source.is_empty() {
                converted.remarked(Marks::unreserved)
            } else {
                Pool::read(&reserve.source)
            };
            Some(Conversion { consumed, converted })
        }
        OperationType::Unreserve => {
            let consumed = Pool::read(&operation.unreserve.as_ref()?.resources);
            let converted = consumed.remarked(Marks::unreserved);
            Some(Conversion { consumed, converted })
        }
        OperationType::Create => {
            let converted = Pool::read(&operation.create.as_ref()?.volumes);
            let consumed = converted.remarked(Marks::without_volume);
            Some(Conversion { consumed, converted })
        }
        OperationType::Destroy => {
            let consumed = Pool::read(&operation.destroy.as_ref()?.volumes);
            let converted = consumed.remarked(Marks::without_volume);
            Some(Conversion { consumed, converted })
        }
        OperationType::GrowVolume => {
            let grow = operation.grow_volume.as_ref()?;
            let size = |resource: &Resource| resource.scalar.map_or(0.0, |scalar| scalar.value);
            let mut grown = grow.volume.clone();
            grown.scalar = Some(Scalar { value: size(&grow.volume) + size(&grow.addition) });
            let consumed = Pool::read(&[grow.volume.clone(), grow.addition.clone()]);
            Some(Conversion { consumed, converted: Pool::read(&[grown]) })
        }
        OperationType::ShrinkVolume => {
            let shrink = operation.shrink_volume.as_ref()?;
            let size = shrink.volume.scalar.map_or(0.0, |scalar| scalar.value);
            let with = |value: f64| Resource { scalar: Some(Scalar { value }), ..shrink.volume.clone() };
            let mut converted = Pool::read(&[with(size - shrink.subtract.value)]);
            converted.add(&Pool::read(&[with(shrink.subtract.value)]).remarked(Marks::without_volume));
            Some(Conversion { consumed: Pool::read(std::slice::from_ref(&shrink.volume)), converted })
        }
        _ => None,
    }
}

/// What is wrong with an operation, in the words of the master. `volumes`: those the agent has.
pub(super) fn fault(operation: &Operation, who: &Who<'_>, volumes: &Pool) -> Option<String> {
    match operation.kind {
        OperationType::Reserve => {
            let reserve = operation.reserve.as_ref()?;
            reserve.resources.iter().find_map(|resource| reserve_fault(resource, who)).or_else(|| {
                mixed_roles(&reserve.resources).map(|why| format!("Invalid reservation resources: {why}"))
            })
        }
        OperationType::Unreserve => {
            operation.unreserve.as_ref()?.resources.iter().find_map(|resource| {
                let marks = Marks::of(resource);
                if !marks.is_dynamic() {
                    return Some(format!("Resource {} is not dynamically reserved", show(resource)));
                }
                marks.persistence_id().map(|_| {
                    format!(
                        "A dynamically reserved persistent volume {} cannot be unreserved directly. Please destroy the \
                         persistent volume first then unreserve the resource",
                        show(resource)
                    )
                })
            })
        }
        OperationType::Create => create_fault(&operation.create.as_ref()?.volumes, who, volumes),
        OperationType::Destroy => {
            let wanted = &operation.destroy.as_ref()?.volumes;
            if let Some(why) = check::volumes_fault(wanted) {
                return Some(format!("Not a persistent volume: {why}"));
            }
            (!volumes.contains(&Pool::read(wanted))).then(|| "Persistent volumes not found".to_owned())
        }
        OperationType::GrowVolume => {
            let grow = operation.grow_volume.as_ref()?;
            if grow.addition.scalar.is_none_or(|scalar| scalar.value <= 0.0) {
                return Some("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
            }
            if let Some(why) = check::volumes_fault(std::slice::from_ref(&grow.volume)) {
                return Some(format!("Invalid persistent volume in the 'GrowVolume.volume' field: {why}"));
            }
            if grow.volume.shared.is_some() {
                return Some("Growing a shared persistent volume is not supported".to_owned());
            }
            (Marks::of(&grow.volume).without_volume() != Marks::of(&grow.addition)).then(|| {
                "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields".to_owned()
            })
        }
        OperationType::ShrinkVolume => {
            let shrink = operation.shrink_volume.as_ref()?;
            if shrink.subtract.value <= 0.0 {
                return Some("Value of 'ShrinkVolume.subtract' must be greater than zero".to_owned());
            }
            if shrink.volume.scalar.is_none_or(|scalar| scalar.value <= shrink.subtract.value) {
                let text = "Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'";
                return Some(text.to_owned());
            }
            if let Some(why) = check::volumes_fault(std::slice::from_ref(&shrink.volume)) {
                return Some(format!("Invalid persistent volume in the 'ShrinkVolume.volume' field: {why}"));
            }
            (shrink.volume.shared.is_some())
                .then(|| "Shrinking a shared persistent volume is not supported".to_owned())
        }
        OperationType::CreateDisk | OperationType::DestroyDisk => {
            Some("'source' is not managed by a resource provider".to_owned())
        }
        OperationType::Launch | OperationType::LaunchGroup | OperationType::Unknown => None,
    }
}

fn show(resource: &Resource) -> String {
    describe(std::slice::from_ref(resource), None)
}

fn reserve_fault(resource: &Resource, who: &Who<'_>) -> Option<String> {
    let marks = Marks::of(resource);
    if !marks.is_dynamic() {
        return Some(format!("Resource {} is not dynamically reserved", show(resource)));
    }
    let role = marks.role().unwrap_or_default();
    let allocated = resource.allocation_info.as_ref().and_then(|info| info.role.as_deref());
    let info = match who {
        Who::Operator => {
            return allocated.map(|_| {
                "A reserve operation was attempted with an allocated resource, but the operator API only allows \
                 reservations to be made to unallocated resources"
                    .to_owned()
            });
        }
        Who::Framework(info) => info,
    };
    if let Some(principal) = &info.principal {
        let reservation = marks.reservations().pop();
        let given = reservation.as_ref().and_then(|r| r.get("principal")).and_then(|p| p.as_str());
        match given {
            None => {
                return Some(format!(
                    "A reserve operation was attempted by principal '{principal}', but there is a reserved resource in \
                     the request with no principal set"
                ));
            }
            Some(given) if given != principal => {
                return Some(format!(
                    "A reserve operation was attempted by authenticated principal '{principal}', which does not match a \
                     reserved resource in the request with principal '{given}'"
                ));
            }
            Some(_) => {}
        }
    }
    let Some(allocated) = allocated else {
        return Some(format!(
            "A reserve operation was attempted on unallocated resource {}, but frameworks can only perform reservations \
             on allocated resources",
            show(resource)
        ));
    };
    if allocated != role {
        return Some(format!(
            "A reserve operation was attempted for a resource with role '{role}', but the resource was allocated to \
             role '{allocated}'"
        ));
    }
    let roles = super::framework_info::roles(info);
    (!roles.contains(&role)).then(|| {
        format!(
            "A reserve operation was attempted for a resource allocated to role '{role}', but the framework only has \
             roles '{{ {} }}'",
            roles.join(", ")
        )
    })
}

fn create_fault(wanted: &[Resource], who: &Who<'_>, volumes: &Pool) -> Option<String> {
    if let Some(why) = check::disks_fault(wanted) {
        return Some(format!("Invalid resources: Invalid DiskInfo: {why}"));
    }
    if let Some(why) = check::volumes_fault(wanted) {
        return Some(format!("Not a persistent volume: {why}"));
    }
    if let Some(why) = check::doubled_volume(wanted) {
        return Some(why);
    }
    let taken = |resource: &Resource| {
        let marks = Marks::of(resource);
        let id = marks.persistence_id();
        let same = |other: &&Marks| other.persistence_id() == id && other.role() == marks.role();
        volumes.marks().any(|other| same(&other))
    };
    if let Some(doubled) = wanted.iter().find(|resource| taken(resource)) {
        let id = Marks::of(doubled).persistence_id().unwrap_or_default();
        return Some(format!("Persistence ID '{id}' is not unique"));
    }
    let Who::Framework(info) = who else { return None };
    let shares = info.capabilities.iter().any(|c| c.kind == CapabilityType::SharedResources);
    wanted.iter().find_map(|volume| {
        if volume.shared.is_some() && !shares {
            let id = info.id.as_ref().map(ToString::to_string).unwrap_or_default();
            return Some(format!(
                "Create volume operation for '{}' has been attempted by framework '{id}' with no SHARED_RESOURCES \
                 capability",
                show(volume)
            ));
        }
        let principal = info.principal.as_ref()?;
        let given = volume.disk.as_ref()?.persistence.as_ref()?.principal.as_ref();
        match given {
            None => Some(format!(
                "Create volume operation attempted by principal '{principal}', but there is a volume in the operation \
                 with no principal set in 'disk.persistence'"
            )),
            Some(given) if given != principal => Some(format!(
                "Create volume operation attempted by authenticated principal '{principal}', which does not match a \
                 volume in the operation with principal '{given}' set in 'disk.persistence'"
            )),
            Some(_) => None,
        }
    })
}
