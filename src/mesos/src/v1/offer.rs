//! Offers, and their inverse: the wish to have resources back for maintenance.

use serde::{Deserialize, Serialize};

use super::{
    AgentId, AllocationInfo, Attribute, DomainInfo, DurationInfo, ExecutorId, FrameworkId, OfferId, Resource,
    TimeInfo, Url,
};

/// When a host is planned to be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Unavailability {
    /// From when on.
    #[serde(default)]
    pub start: TimeInfo,
    /// For how long; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<DurationInfo>,
}

/// Resources of one agent, offered to one role.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Offer {
    /// Names it.
    pub id: OfferId,
    /// Whom it is for.
    #[serde(default)]
    pub framework_id: FrameworkId,
    /// Whose resources.
    #[serde(default)]
    pub agent_id: AgentId,
    /// The agent's host name.
    #[serde(default)]
    pub hostname: String,
    /// The agent's endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// The agent's fault domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<DomainInfo>,
    /// What is offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// The agent's attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attribute>,
    /// Our executors that run there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executor_ids: Vec<ExecutorId>,
    /// When the host goes into maintenance, if that is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailability: Option<Unavailability>,
    /// The role it is offered to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
}

/// The master asks for an agent's resources back, before a time. Accepting it is a promise, no act.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct InverseOffer {
    /// Names it.
    #[serde(default)]
    pub id: OfferId,
    /// The agent's endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// Whom it asks.
    #[serde(default)]
    pub framework_id: FrameworkId,
    /// Whose resources; all of the framework's on all agents when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// When the host goes away.
    #[serde(default)]
    pub unavailability: Unavailability,
    /// Which of them; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fault_domain_and_planned_maintenance_are_read_and_kept() {
        let text = json!({
            "id": {"value": "O1"}, "framework_id": {"value": "f"}, "agent_id": {"value": "S1"}, "hostname": "h",
            "domain": {"fault_domain": {"region": {"name": "eu"}, "zone": {"name": "eu-1"}}},
            "unavailability": {"start": {"nanoseconds": 1_795_371_186_193_405_440_i64}},
            "allocation_info": {"role": "a/b"},
        });
        let offer: Offer = serde_json::from_value(text.clone()).unwrap();
        let domain = offer.domain.as_ref().and_then(|domain| domain.fault_domain.as_ref()).unwrap();
        assert_eq!((domain.region.name.as_str(), domain.zone.name.as_str()), ("eu", "eu-1"));
        let unavailability = offer.unavailability.unwrap();
        assert_eq!(unavailability.start.nanoseconds, 1_795_371_186_193_405_440);
        assert_eq!(unavailability.duration, None, "for ever");
        assert_eq!(serde_json::to_value(&offer).unwrap(), text);
    }
}
