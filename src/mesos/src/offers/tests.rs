//! The offer book against tables and a model.

use proptest::prelude::*;

use super::*;
use crate::v1::AllocationInfo;

fn offer(id: &str, agent: &str, role: &str) -> Offer {
    Offer {
        id: OfferId::new(id),
        agent_id: AgentId::new(agent),
        allocation_info: Some(AllocationInfo { role: Some(role.to_owned()) }),
        ..Offer::default()
    }
}

fn id(id: &str) -> OfferId {
    OfferId::new(id)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn book() -> OfferBook {
    OfferBook::new(OfferBookConfig::default(), ["a", "b"])
}

fn roles(roles: &[&str]) -> Vec<String> {
    roles.iter().map(|role| (*role).to_owned()).collect()
}

fn decline(ids: &[&str], refuse_seconds: f64) -> Command {
    Command::Decline { offer_ids: ids.iter().map(|i| id(i)).collect(), refuse_seconds }
}

#[test]
fn roles_that_nobody_wants_are_suppressed_once_per_subscription() {
    let mut book = book();
    assert_eq!(book.poll(seconds(0.0)), [Command::Suppress { roles: roles(&["a", "b"]) }]);
    assert_eq!(book.poll(seconds(1.0)), []);
    assert_eq!(book.next_deadline(), None);
    book.clear();
    assert_eq!(book.poll(seconds(2.0)), [Command::Suppress { roles: roles(&["a", "b"]) }]);
}

#[test]
fn unwanted_offers_are_declined_for_long_and_revived_when_wanted() {
    let mut book = book();
    book.insert([offer("o1", "x", "a")], seconds(0.0));
    assert!(book.is_empty());
    assert_eq!(
        book.poll(seconds(0.0)),
        [decline(&["o1"], 3600.0), Command::Suppress { roles: roles(&["a", "b"]) }]
    );
    assert!(book.want("a"));
    assert_eq!(book.next_deadline(), Some(seconds(0.0)));
    assert_eq!(book.poll(seconds(1.0)), [Command::Revive { roles: roles(&["a"]) }]);
    assert!(!book.want("nobody's"));
}

#[test]
fn an_offer_that_came_before_it_was_wanted_is_declined_before_the_revive() {
    let mut book = book();
    book.insert([offer("o1", "x", "a")], seconds(0.0));
    book.want("a");
    book.want("b");
    assert_eq!(
        book.poll(seconds(0.0)),
        [decline(&["o1"], 3600.0), Command::Revive { roles: roles(&["a", "b"]) }]
    );
}

#[test]
fn a_wanted_offer_is_held_until_its_deadline() {
    let mut book = book();
    book.want("a");
    book.want("b");
    book.poll(seconds(0.0));
    book.insert([offer("o1", "x", "a")], seconds(1.0));
    book.insert([offer("o2", "x", "a")], seconds(2.0));
    assert_eq!(book.next_deadline(), Some(seconds(6.0)));
    assert_eq!(book.poll(seconds(5.9)), []);
    assert_eq!(book.poll(seconds(6.0)), [decline(&["o1"], 5.0)]);
    assert_eq!(book.len(), 1);
    assert_eq!(book.poll(seconds(7.0)), [decline(&["o2"], 5.0)]);
}

#[test]
fn offers_are_handed_out_all_or_none_and_once() {
    let mut book = book();
    book.want("a");
    book.insert([offer("o1", "x", "a"), offer("o2", "x", "a"), offer("o3", "y", "a")], seconds(0.0));
    let groups = book.by_agent();
    assert_eq!(groups[&(&AgentId::new("x"), "a")].len(), 2);
    assert_eq!(groups.len(), 2);
    assert_eq!(book.take(&[id("o1"), id("gone")]), None);
    assert_eq!(book.take(&[id("o1"), id("o1")]), None);
    let taken = book.take(&[id("o1"), id("o2")]).unwrap();
    assert_eq!(taken.len(), 2);
    assert_eq!(book.take(&[id("o1")]), None);
    assert_eq!(book.len(), 1);
}

#[test]
fn void_offers_disappear() {
    let mut book = book();
    book.want("a");
    book.want("b");
    book.poll(seconds(0.0));
    book.insert([offer("o1", "x", "a"), offer("o2", "x", "a"), offer("o3", "y", "a")], seconds(0.0));
    book.rescind(&id("o1"));
    assert_eq!(book.offer(&id("o1")), None);
    book.remove_agent(&AgentId::new("x"));
    assert_eq!(book.offers().map(|offer| offer.id.as_str()).collect::<Vec<_>>(), ["o3"]);
    book.clear();
    assert!(book.is_empty());
    assert_eq!(book.poll(seconds(100.0)), [], "and are not declined");
}

#[test]
fn leftovers_are_asked_for_again_but_not_too_often() {
    let mut book = book();
    book.want("a");
    book.want("b");
    assert_eq!(book.poll(seconds(0.0)).len(), 1);
    book.accepted("a");
    assert_eq!(book.next_deadline(), Some(seconds(0.2)));
    assert_eq!(book.poll(seconds(0.1)), []);
    book.accepted("b");
    assert_eq!(book.poll(seconds(0.2)), [Command::Revive { roles: roles(&["a", "b"]) }]);
    assert_eq!(book.poll(seconds(0.4)), []);
}

#[test]
fn met_demand_asks_for_nothing_and_gives_back_what_is_held() {
    let mut book = book();
    book.want("a");
    book.want("b");
    book.poll(seconds(0.0));
    book.insert([offer("o1", "x", "a"), offer("o2", "x", "a"), offer("o3", "x", "b")], seconds(1.0));
    book.take(&[id("o1")]).unwrap();
    book.accepted("a");
    book.unwant("a");
    assert_eq!(
        book.poll(seconds(1.0)),
        [decline(&["o2"], 3600.0), Command::Suppress { roles: roles(&["a"]) }]
    );
    assert!(book.is_wanted("b") && !book.is_wanted("a"));
}

#[test]
fn what_failed_comes_again_after_a_pause() {
    let mut book = book();
    book.want("a");
    book.insert([offer("o1", "x", "b")], seconds(0.0));
    let commands = book.poll(seconds(0.0));
    assert_eq!(
        commands,
        [
            decline(&["o1"], 3600.0),
            Command::Suppress { roles: roles(&["b"]) },
            Command::Revive { roles: roles(&["a"]) }
        ]
    );
    for command in commands {
        book.failed(command, seconds(0.0));
    }
    assert_eq!(book.next_deadline(), Some(seconds(1.0)));
    assert_eq!(book.poll(seconds(0.5)), []);
    assert_eq!(
        book.poll(seconds(1.0)),
        [
            decline(&["o1"], 5.0),
            Command::Suppress { roles: roles(&["b"]) },
            Command::Revive { roles: roles(&["a"]) }
        ]
    );
}

#[test]
fn offers_beyond_the_bound_are_declined() {
    let mut book = OfferBook::new(OfferBookConfig { max_offers: 1, ..OfferBookConfig::default() }, ["a"]);
    book.want("a");
    book.insert([offer("o1", "x", "a"), offer("o2", "x", "a")], seconds(0.0));
    assert_eq!(book.len(), 1);
    assert_eq!(book.poll(seconds(0.0))[0], decline(&["o2"], 5.0));
}

#[derive(Debug, Clone)]
enum Action {
    Insert(u8),
    Rescind(u8),
    Take(u8),
    Want(bool),
    Unwant(bool),
    Accepted(bool),
    LoseAgent(u8),
    Clear,
    Poll,
    FailLast,
    Advance(u16),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => (0..40_u8).prop_map(Action::Insert),
        1 => (0..40_u8).prop_map(Action::Rescind),
        2 => (0..40_u8).prop_map(Action::Take),
        2 => any::<bool>().prop_map(Action::Want),
        1 => any::<bool>().prop_map(Action::Unwant),
        1 => any::<bool>().prop_map(Action::Accepted),
        1 => (0..3_u8).prop_map(Action::LoseAgent),
        1 => Just(Action::Clear),
        4 => Just(Action::Poll),
        1 => Just(Action::FailLast),
        3 => (1..3000_u16).prop_map(Action::Advance),
    ]
}

fn role(first: bool) -> &'static str {
    if first { "a" } else { "b" }
}

proptest! {
    #[test]
    fn no_offer_is_handed_out_twice_lost_or_held_too_long(actions in prop::collection::vec(action(), 1..120)) {
        let mut book = book();
        let mut now = Duration::ZERO;
        let mut serial = 0_u32;
        // Every offer that was inserted and has not ended, with the time when it came.
        let mut open: BTreeMap<OfferId, Duration> = BTreeMap::new();
        let mut revived: Option<Duration> = None;
        let mut last: Option<Command> = None;
        // When a call failed: for a second no other is made.
        let mut failed: Option<Duration> = None;
        for action in actions {
            let nth = |n: u8| open.keys().nth(usize::from(n) % open.len().max(1)).cloned();
            match action {
                Action::Insert(n) => {
                    serial += 1;
                    let offer = offer(&format!("o{serial:04}"), &format!("x{}", n % 3), role(n % 2 == 0));
                    open.insert(offer.id.clone(), now);
                    book.insert([offer.clone(), offer], now);
                }
                Action::Rescind(n) => if let Some(id) = nth(n) {
                    book.rescind(&id);
                    open.remove(&id);
                },
                Action::Take(n) => if let Some(id) = nth(n)
                    && let Some(taken) = book.take(std::slice::from_ref(&id))
                {
                    prop_assert_eq!(&taken[0].id, &id);
                    prop_assert!(open.remove(&id).is_some(), "{} handed out twice", id);
                    prop_assert!(book.take(&[id]).is_none());
                },
                Action::Want(first) => { book.want(role(first)); }
                Action::Unwant(first) => book.unwant(role(first)),
                Action::Accepted(first) => book.accepted(role(first)),
                Action::LoseAgent(n) => {
                    let agent = AgentId::new(format!("x{n}"));
                    let gone: Vec<_> =
                        book.offers().filter(|o| o.agent_id == agent).map(|o| o.id.clone()).collect();
                    book.remove_agent(&agent);
                    for id in gone { open.remove(&id); }
                }
                Action::Clear => {
                    book.clear();
                    open.clear();
                    revived = None;
                    last = None;
                    failed = None;
                }
                Action::Poll => {
                    let commands = book.poll(now);
                    for command in &commands {
                        match command {
                            Command::Decline { offer_ids, .. } => for id in offer_ids {
                                prop_assert!(open.remove(id).is_some(), "{} declined but not open", id);
                            },
                            Command::Revive { roles } => {
                                prop_assert!(!roles.is_empty());
                                prop_assert!(roles.iter().all(|role| book.is_wanted(role)));
                                prop_assert!(revived.is_none_or(|at| now >= at + seconds(0.2)));
                                revived = Some(now);
                            }
                            Command::Suppress { roles } => {
                                prop_assert!(!roles.is_empty());
                                prop_assert!(roles.iter().all(|role| !book.is_wanted(role)));
                            }
                        }
                    }
                    last = commands.into_iter().last();
                    for held in book.offers() {
                        let waits = failed.is_some_and(|at| now < at + seconds(1.0));
                        prop_assert!(waits || open[&held.id] + seconds(5.0) > now, "{} held too long", held.id);
                        prop_assert!(book.is_wanted(role_of(held)));
                    }
                    let next = book.next_deadline();
                    prop_assert!(next.is_none_or(|at| at > now), "poll leaves nothing due: {:?} at {:?}", next, now);
                }
                Action::FailLast => if let Some(command) = last.take() {
                    if let Command::Decline { offer_ids, .. } = &command {
                        open.extend(offer_ids.iter().map(|id| (id.clone(), now)));
                    }
                    book.failed(command, now);
                    failed = Some(now);
                },
                Action::Advance(millis) => now += Duration::from_millis(millis.into()),
            }
        }
        // Left alone, the book ends with nothing open.
        book.unwant("a");
        book.unwant("b");
        now += seconds(10.0);
        for command in book.poll(now) {
            if let Command::Decline { offer_ids, .. } = command {
                for id in offer_ids {
                    prop_assert!(open.remove(&id).is_some());
                }
            }
        }
        prop_assert!(open.is_empty(), "neither taken, declined nor void: {:?}", open);
        prop_assert_eq!(book.next_deadline(), None);
    }
}

#[test]
fn roles_come_and_go_with_their_offers() {
    let mut book = book();
    book.want("a");
    book.want("b");
    book.poll(seconds(0.0));
    book.insert([offer("o1", "x", "a"), offer("o2", "x", "b")], seconds(1.0));
    book.set_roles(["b", "c"]);
    let held: Vec<_> = book.offers().map(|offer| offer.id.as_str()).collect();
    assert_eq!(held, ["o2"]);
    assert!(book.is_wanted("b") && !book.want("a") && !book.is_wanted("c"));
    let commands = book.poll(seconds(1.0));
    assert_eq!(commands, [decline(&["o1"], 3600.0), Command::Suppress { roles: roles(&["c"]) }]);
    // A command for a role that is gone by now does no harm.
    book.failed(Command::Suppress { roles: roles(&["a"]) }, seconds(1.0));
    assert!(book.poll(seconds(9.0)).iter().all(|command| !matches!(command, Command::Suppress { .. })));
}
