//! What an agent is, whatever is placed on it: role, constraints, excluded hosts.

use std::borrow::Cow;

use overlord_api::{Constraint, Operator, Placement};

use crate::{HostOffer, Reason, World};

/// Whether roles and constraints let the cluster use the offer at all.
pub fn is_eligible(offer: &HostOffer, rules: &Placement) -> bool {
    rules.roles.contains(&offer.role) && rules.constraints.iter().all(|constraint| holds(constraint, offer))
}

/// Why the offer is of no use to any member of the cluster; empty if it is eligible.
pub(crate) fn fixed_reasons(offer: &HostOffer, world: &World<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if !world.rules.roles.contains(&offer.role) {
        reasons.push(Reason::Role);
    }
    for constraint in &world.rules.constraints {
        let reason = Reason::Attribute(constraint.attribute.clone());
        if !holds(constraint, offer) && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if world.exclude_hosts.contains(&offer.host) {
        reasons.push(Reason::HostExcluded);
    }
    reasons
}

/// `host` and `hostname` name the agent itself; `rack` and `zone` also work where they come from its
/// fault domain and not from an attribute.
fn attribute<'o>(offer: &'o HostOffer, name: &str) -> Option<Cow<'o, str>> {
    match name {
        "host" => Some(offer.host.to_string().into()),
        "hostname" => Some(offer.hostname.as_str().into()),
        _ => {
            let domain = match name {
                "rack" => offer.rack.as_ref(),
                "zone" => offer.zone.as_ref(),
                _ => None,
            };
            offer.attributes.get(name).or(domain).map(|value| value.as_str().into())
        }
    }
}

fn holds(constraint: &Constraint, offer: &HostOffer) -> bool {
    let actual = attribute(offer, &constraint.attribute);
    let wanted = constraint.value.as_str();
    let listed = |actual: &str| wanted.split(',').any(|one| one.trim() == actual);
    match constraint.operator {
        Operator::Is => actual.is_some_and(|actual| actual == wanted),
        Operator::IsNot => actual.is_none_or(|actual| actual != wanted),
        Operator::In => actual.is_some_and(|actual| listed(&actual)),
        Operator::NotIn => actual.is_none_or(|actual| !listed(&actual)),
        Operator::Exists => actual.is_some(),
    }
}
