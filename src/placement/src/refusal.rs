//! Why there is no place: counted per agent, so that a person sees what to change.

use std::{collections::BTreeMap, fmt};

use overlord_api::Domain;

/// Why an agent cannot take a member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its offer is for another role.
    Role,
    /// A constraint on this attribute does not hold, or a required spread needs the attribute.
    Attribute(String),
    /// The host must not be used.
    HostExcluded,
    /// The member may only have an address on another host.
    OnlyElsewhere,
    /// A member of the cluster is on the host.
    HostUsed,
    /// A member of the cluster is in the rack.
    RackUsed,
    /// A member of the cluster is in the zone.
    ZoneUsed,
    /// A member of the same shard is in the domain.
    ShardIn(Domain),
    /// The domain has as many masters as it may have.
    MastersIn(Domain),
    /// It tells another rack or zone than another agent with its ip.
    OtherDomain,
    /// Too little cpu is left.
    Cpu,
    /// Too little memory is left.
    Mem,
    /// Too little disk is left.
    Disk,
    /// No suitable port is offered.
    Ports,
    /// Suitable ports are offered, but in use or in quarantine, perhaps by way of another agent with that ip.
    Taken,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Role => "role",
            Self::Attribute(name) => return write!(f, "attribute {name}"),
            Self::HostExcluded => "host excluded",
            Self::OnlyElsewhere => "not its host",
            Self::HostUsed => "host already used",
            Self::RackUsed => "rack already used",
            Self::ZoneUsed => "zone already used",
            Self::ShardIn(domain) => return write!(f, "{} has its shard", domain.as_str()),
            Self::MastersIn(domain) => return write!(f, "{} has its most masters", domain.as_str()),
            Self::OtherDomain => "rack or zone unlike others of its ip",
            Self::Cpu => "cpu",
            Self::Mem => "mem",
            Self::Disk => "disk",
            Self::Ports => "ports",
            Self::Taken => "ports taken or in quarantine",
        })
    }
}

/// A required spread that cannot hold for the whole cluster with the domains that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Which domain.
    pub domain: Domain,
    /// Domains that eligible offers and placed members show.
    pub known: u32,
    /// Members of the cluster when complete.
    pub members: u32,
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, known, members } = self;
        let domain = domain.as_str();
        write!(
            f,
            "spread by {domain} is required: {members} members need as many {domain}s, {known} are known"
        )
    }
}

/// A request without a place. Its text is a summary: `mem 22 agents, rack already used 12, ports 4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which member.
    pub member: u32,
    /// How many agents were unsuitable for each reason. An agent counts once for each of its reasons.
    pub reasons: BTreeMap<Reason, u32>,
    /// How many agents offered anything.
    pub offers_seen: u32,
    /// What is wrong with the wish as a whole, if anything.
    pub hint: Option<Hint>,
}

/// The commonest reason first.
pub(crate) fn summary(f: &mut fmt::Formatter<'_>, reasons: &BTreeMap<Reason, u32>) -> fmt::Result {
    let mut reasons: Vec<_> = reasons.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    for (n, (reason, agents)) in reasons.into_iter().enumerate() {
        match (n, agents) {
            (0, 1) => write!(f, "{reason} 1 agent")?,
            (0, _) => write!(f, "{reason} {agents} agents")?,
            (_, _) => write!(f, ", {reason} {agents}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.offers_seen == 0 {
            f.write_str("no offers")?;
        }
        summary(f, &self.reasons)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(reasons: &[(Reason, u32)]) -> Refusal {
        let reasons: BTreeMap<_, _> = reasons.iter().cloned().collect();
        Refusal { member: 3, offers_seen: reasons.values().copied().max().unwrap_or(0), reasons, hint: None }
    }

    #[test]
    fn the_commonest_reason_is_told_first() {
        let refusal = refusal(&[(Reason::Ports, 4), (Reason::RackUsed, 12), (Reason::Mem, 22)]);
        assert_eq!(refusal.to_string(), "mem 22 agents, rack already used 12, ports 4");
    }

    #[test]
    fn one_agent_is_singular_and_none_is_said() {
        assert_eq!(refusal(&[(Reason::Attribute("disk".into()), 1)]).to_string(), "attribute disk 1 agent");
        assert_eq!(refusal(&[]).to_string(), "no offers");
    }

    #[test]
    fn a_spread_that_cannot_hold_is_explained() {
        let hint = Some(Hint { domain: Domain::Rack, known: 3, members: 5 });
        let refusal = Refusal { hint, ..refusal(&[(Reason::RackUsed, 6)]) };
        assert_eq!(
            refusal.to_string(),
            "rack already used 6 agents; spread by rack is required: 5 members need as many racks, 3 are known"
        );
    }
}
