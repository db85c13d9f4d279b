//! Resources and attributes.

use serde::{Deserialize, Serialize};

use super::{Labels, ResourceProviderId, lenient, wire_enum};

wire_enum! {
    /// What a value is.
    ValueType {
        /// A number with three decimals.
        Scalar = "SCALAR",
        /// Ranges of whole numbers.
        Ranges = "RANGES",
        /// A set of words.
        Set = "SET",
        /// A text; attributes only.
        Text = "TEXT",
    }
}

/// A number. Mesos keeps three decimals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
pub struct Scalar {
    /// The number.
    pub value: f64,
}

/// An inclusive range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First number.
    #[serde(deserialize_with = "lenient::whole")]
    pub begin: u64,
    /// Last number.
    #[serde(deserialize_with = "lenient::whole")]
    pub end: u64,
}

/// Several ranges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Ranges {
    /// The ranges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<Range>,
}

/// Several words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Set {
    /// The words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub item: Vec<String>,
}

/// A text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Text {
    /// The text.
    pub value: String,
}

/// `Resource.AllocationInfo`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AllocationInfo {
    /// The role the resource is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

wire_enum! {
    /// `Resource.ReservationInfo.Type`
    ReservationType {
        /// By the agent's flags.
        Static = "STATIC",
        /// By a framework or an operator.
        Dynamic = "DYNAMIC",
    }
}

/// `Resource.ReservationInfo`: one layer of a stack of reservations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ReservationInfo {
    /// Who can undo it.
    #[serde(rename = "type", default, skip_serializing_if = "ReservationType::is_unknown")]
    pub kind: ReservationType,
    /// For which role; a layer above refines that of the one below, as `a/b` does `a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// What they wrote on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// `Resource.DiskInfo.Persistence`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Persistence {
    /// Names the volume on its agent and in its role.
    #[serde(default)]
    pub id: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// `Volume`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Volume {
    /// `RW` or `RO`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Where the task sees it.
    #[serde(default)]
    pub container_path: String,
    /// Where it is on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

wire_enum! {
    /// `Resource.DiskInfo.Source.Type`
    DiskSourceType {
        /// A directory, shared.
        Path = "PATH",
        /// A file system of its own.
        Mount = "MOUNT",
        /// A device.
        Block = "BLOCK",
        /// Nothing yet.
        Raw = "RAW",
    }
}

/// `Resource.DiskInfo.Source`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct DiskSource {
    /// What it is.
    #[serde(rename = "type", default, skip_serializing_if = "DiskSourceType::is_unknown")]
    pub kind: DiskSourceType,
    /// Where it is, and all the rest, as it came.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// `Resource.DiskInfo`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct DiskInfo {
    /// It is a volume that outlives its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// How a task sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// It is no part of the agent's root disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<DiskSource>,
}

/// A message without fields, whose presence says something; what newer masters put into it is kept.
pub type Marker = serde_json::Map<String, serde_json::Value>;

/// A resource. Whatever it carries is kept, so that an offered resource can be given back in ACCEPT exactly
/// as it came: the master subtracts, and refuses what it did not offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Resource {
    /// What provides it, when not the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<ResourceProviderId>,
    /// `cpus`, `mem`, `disk`, `ports` ...
    #[serde(default)]
    pub name: String,
    /// Which of the fields below is set.
    #[serde(rename = "type", default, skip_serializing_if = "ValueType::is_unknown")]
    pub kind: ValueType,
    /// For [`ValueType::Scalar`]; `mem` and `disk` in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// For [`ValueType::Ranges`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// For [`ValueType::Set`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// The role it is reserved for, to frameworks without `RESERVATION_REFINEMENT`; `*` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The role it is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
    /// Its dynamic reservation, to frameworks without `RESERVATION_REFINEMENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<ReservationInfo>,
    /// Its reservations, with `RESERVATION_REFINEMENT`: the last one counts, the ones before are refined by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<ReservationInfo>,
    /// It is a disk of its own, or a volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskInfo>,
    /// It may be taken away at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocable: Option<Marker>,
    /// Several tasks may use it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<Marker>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

impl Resource {
    /// A scalar resource.
    pub fn scalar(name: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            kind: ValueType::Scalar,
            scalar: Some(Scalar { value }),
            ..Self::default()
        }
    }

    /// A ranges resource.
    pub fn ranges(name: &str, ranges: &[(u64, u64)]) -> Self {
        let range = ranges.iter().map(|&(begin, end)| Range { begin, end }).collect();
        Self {
            name: name.to_owned(),
            kind: ValueType::Ranges,
            ranges: Some(Ranges { range }),
            ..Self::default()
        }
    }
}

/// An agent's attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Attribute {
    /// Its name; need not be unique.
    #[serde(default)]
    pub name: String,
    /// Which of the fields below is set.
    #[serde(rename = "type", default, skip_serializing_if = "ValueType::is_unknown")]
    pub kind: ValueType,
    /// For [`ValueType::Scalar`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<Scalar>,
    /// For [`ValueType::Ranges`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<Ranges>,
    /// For [`ValueType::Set`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// For [`ValueType::Text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<Text>,
}
