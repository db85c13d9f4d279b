//! Random clusters, files and texts for property tests.

use std::net::Ipv4Addr;

use overlord_api::Address;
use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::{
    Flag, Flags, LinkState, Node, NodeAddress, NodeId, NodesConf, Role, SLOTS, SeedNode, SlotMove, SlotSet,
    slot_ranges,
};

pub(crate) fn id(number: u32) -> NodeId {
    NodeId::derive("0123456789abcdef0123456789abcdef", number, 0)
}

/// Masters 0..m, then their replicas.
pub(crate) fn members(masters: u16, replicas: u16) -> Vec<SeedNode> {
    let node = |number: u16, master: Option<u16>, slots: SlotSet| SeedNode {
        id: id(number.into()),
        address: Address::new(
            Ipv4Addr::from(0x7f00_0001 + u32::from(number % 250)).into(),
            7000 + number / 250 * 2,
        ),
        bus_port: Some(17_000 + number / 250 * 2),
        master: master.map(|master| id(master.into())),
        slots,
        epoch: u64::from(number) + 1,
    };
    let own =
        slot_ranges(masters).into_iter().zip(0..).map(|(slots, number)| node(number, None, slots.into()));
    let copies =
        (0..masters * replicas).map(|copy| node(masters + copy, Some(copy % masters), SlotSet::new()));
    own.chain(copies).collect()
}

fn flags() -> impl Strategy<Value = Flags> {
    let role = prop_oneof![
        4 => Just(Some(Role::Master)),
        4 => Just(Some(Role::Replica)),
        1 => Just(None),
    ];
    let more = vec(
        prop::sample::select(vec![
            Flag::SuspectedFail,
            Flag::Fail,
            Flag::Handshake,
            Flag::NoAddress,
            Flag::NoFailover,
        ]),
        0..3,
    );
    (role, more).prop_map(|(role, more)| {
        more.into_iter().fold(role.map_or_else(Flags::default, Flags::of), Flags::with)
    })
}

fn address() -> impl Strategy<Value = NodeAddress> {
    let text = "([0-9a-f:.]{0,20}|[a-z0-9.-]{0,45}):[0-9]{1,4}(@[0-9]{1,4})?(,[a-z0-9.-]{0,20}(,[a-z-]{1,9}=[a-z0-9]{1,40}){0,3})?";
    // Numbers and an absent name have one way to be written.
    text.prop_filter_map("has one text", |text| {
        NodeAddress::parse(&text).filter(|address| address.to_string() == text)
    })
}

fn moving() -> impl Strategy<Value = SlotMove> {
    use super::Direction::{Importing, Migrating};
    (0..SLOTS, any::<bool>(), 0..20_u32).prop_map(|(slot, to, peer)| SlotMove {
        slot,
        direction: if to { Migrating } else { Importing },
        peer: id(peer),
    })
}

/// Files as redis might write them, and odder ones.
pub(crate) fn confs() -> impl Strategy<Value = NodesConf> {
    let node = (
        address(),
        flags(),
        option::of(0..20_u32),
        (any::<u64>(), any::<u64>(), any::<u64>()),
        any::<bool>(),
        vec(moving(), 0..3),
    );
    (
        vec(node, 1..12),
        any::<Index>(),
        vec((any::<Index>(), 0..SLOTS, 0..900_u16), 0..30),
        any::<(u64, u64)>(),
    )
        .prop_map(|(parts, me, shares, (current_epoch, last_vote_epoch))| {
            let me = me.index(parts.len());
            let mut nodes: Vec<Node> = (0_u32..)
                .zip(parts)
                .map(|(number, (address, flags, master, epochs, connected, moving))| Node {
                    id: id(number),
                    address,
                    flags: if number as usize == me { flags.with(Flag::Myself) } else { flags },
                    master: master.map(id),
                    ping_sent: epochs.0,
                    pong_received: epochs.1,
                    config_epoch: epochs.2,
                    link: if connected { LinkState::Connected } else { LinkState::Disconnected },
                    slots: SlotSet::new(),
                    moving,
                })
                .collect();
            let mut taken = SlotSet::new();
            for (owner, first, more) in shares {
                let free = &SlotSet::from(first..=(first + more).min(SLOTS - 1)) - &taken;
                taken.extend(&free);
                let owner = owner.index(nodes.len());
                nodes[owner].slots.extend(&free);
            }
            NodesConf::new(nodes, current_epoch, last_vote_epoch).unwrap()
        })
}

/// Texts that almost are files: with bytes changed, lines doubled, words swapped, ends cut.
pub(crate) fn mutated(text: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), any::<Index>(), any::<u8>(), 0..6_u8);
    (text, vec(change, 0..6)).prop_map(|(text, changes)| {
        let mut bytes = text.into_bytes();
        for (at, other, byte, kind) in changes {
            if bytes.is_empty() {
                break;
            }
            let (at, other) = (at.index(bytes.len()), other.index(bytes.len()));
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                3 => drop(bytes.remove(at)),
                4 => bytes.swap(at, other),
                _ => bytes.extend_from_within(at.min(other)..at.max(other)),
            }
        }
        bytes
    })
}

#[test]
fn the_strategies_make_what_they_say() {
    let members = members(1000, 1);
    assert_eq!(members.len(), 2000);
    assert_eq!(members.iter().map(|member| u32::from(member.slots.len())).sum::<u32>(), 16_384);
}
