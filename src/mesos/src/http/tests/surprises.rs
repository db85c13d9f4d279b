//! What masters were seen to answer, byte for byte, against the whole scheduler client.

use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::{
    RetryBounds, SchedulerHandle,
    v1::{FrameworkId, OperationState, reason},
};

/// The client, with its driver.
struct World {
    handle: SchedulerHandle,
    events: mpsc::Receiver<SchedulerEvent>,
    _driving: JoinSet<()>,
}

fn world(masters: &[SocketAddr], framework_id: Option<&str>, http: HttpConfig) -> World {
    let mut config = SchedulerConfig::new("root", "cap", vec!["*".to_owned()], Duration::from_secs(3600));
    config.framework_id = framework_id.map(FrameworkId::new);
    config.retry = RetryBounds { min: Duration::from_millis(1), max: Duration::from_millis(5) };
    let transport = HttpScheduler::new(masters.iter().map(SocketAddr::to_string), http).unwrap();
    let (handle, driver, events) = crate::scheduler::scheduler(config, Arc::new(transport), 1);
    let mut driving = JoinSet::new();
    driving.spawn(driver.run(CancellationToken::new()));
    World { handle, events, _driving: driving }
}

impl World {
    async fn next(&mut self) -> Option<SchedulerEvent> {
        timeout(Duration::from_secs(30), self.events.recv()).await.expect("within 30 s")
    }

    /// Events up to the end of the recorded stream.
    async fn all(mut self) -> Vec<SchedulerEvent> {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                None | Some(SchedulerEvent::Disconnected { .. }) => return events,
                Some(event) => events.push(event),
            }
        }
    }
}

async fn recorded(name: &str) -> Vec<SchedulerEvent> {
    let server = Server::start(vec![fixture(name)]).await;
    world(&[server.address], None, config()).all().await
}

fn statuses(events: &[SchedulerEvent]) -> Vec<&crate::v1::TaskStatus> {
    events
        .iter()
        .filter_map(|event| match event {
            SchedulerEvent::Update(status) => Some(status),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_framework_id_that_was_removed_is_fatal_although_the_answer_is_200() {
    let server = Server::start(vec![fixture("02_subscribe_minimal_disconnect.s2.bin")]).await;
    let mut world = world(&[server.address], Some("old"), config());
    let message = "Framework has been removed".to_owned();
    assert_eq!(world.next().await, Some(SchedulerEvent::Removed { message }));
    assert_eq!(world.next().await, None, "it is not tried again, and never with a new id");
    let asked: serde_json::Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!(asked["framework_id"]["value"], "old");
    assert_eq!(asked["subscribe"]["framework_info"]["id"]["value"], "old");
}

#[tokio::test]
async fn bad_framework_info_is_refused_in_a_stream_that_answers_200() {
    let bad = fixture("20_http_errors.s29.bin");
    let server = Server::start(vec![bad.clone(), bad, fixture("01_subscribe_new.s1.bin")]).await;
    let mut world = world(&[server.address], None, config());
    let message =
        "'FrameworkInfo.roles' contains invalid role: Role '/a' cannot start with a slash".to_owned();
    assert_eq!(world.next().await, Some(SchedulerEvent::Refused { message }), "told once");
    assert!(matches!(world.next().await, Some(SchedulerEvent::Subscribed { .. })), "and tried again");
}

#[tokio::test]
async fn wrong_credentials_and_a_foreign_principal_are_refusals_that_say_why() {
    for (answer, expected) in [
        ("53_credentials.s1.bin", " answered 401: 401 Unauthorized."),
        (
            "53_credentials.s6.bin",
            " answered 400: Failed to validate scheduler::Call: Authenticated principal 'p1' does not match principal 'other' set in `FrameworkInfo`",
        ),
    ] {
        let server = Server::start(vec![fixture(answer), fixture("01_subscribe_new.s1.bin")]).await;
        let mut world = world(&[server.address], None, config());
        let Some(SchedulerEvent::Refused { message }) = world.next().await else { panic!("{answer}") };
        assert_eq!(message, format!("{}{expected}", server.address));
        assert!(matches!(world.next().await, Some(SchedulerEvent::Subscribed { .. })));
    }
}

#[tokio::test]
async fn a_master_that_restarts_is_waited_for_and_the_id_is_kept() {
    let answers = ["45_master_restart.s1.bin", "45_master_restart.s7.bin", "45_master_restart.s8.bin"];
    let server = Server::start(answers.iter().map(|name| fixture(name)).collect()).await;
    let mut world = world(&[server.address], None, config());
    let Some(SchedulerEvent::Subscribed { framework_id, .. }) = world.next().await else { panic!() };
    let mut reasons = Vec::new();
    loop {
        match world.next().await.unwrap() {
            SchedulerEvent::Disconnected { reason } => reasons.push(reason),
            SchedulerEvent::Subscribed { framework_id: again, resubscribed } => {
                assert!(resubscribed && again == framework_id);
                break;
            }
            _ => {}
        }
    }
    assert!(reasons.iter().any(|reason| reason.contains("Master has not finished recovery")), "{reasons:?}");
}

#[tokio::test]
async fn a_second_subscriber_ends_the_first_and_is_not_thrown_out_in_turn() {
    let first = fixture("03_resubscribe_failover.s1.bin");
    let server = Server::start(vec![first]).await;
    let mut world = world(&[server.address], None, config());
    let mut last = world.next().await.unwrap();
    while !matches!(last, SchedulerEvent::Disconnected { .. }) {
        last = world.next().await.unwrap();
    }
    let reason = "Framework failed over".to_owned();
    assert_eq!(last, SchedulerEvent::Disconnected { reason });
    assert_eq!(world.handle.subscription(), None);
}

#[tokio::test]
async fn a_follower_that_names_the_dead_leader_is_asked_until_it_leads() {
    let redirect = answer("307 Temporary Redirect", &format!("Location: //{}/x\r\n", dead()), "");
    let mut answers = vec![redirect; 5];
    answers.push(answer("503 Service Unavailable", "", "No leader elected"));
    answers.push(fixture("01_subscribe_new.s1.bin"));
    let follower = Server::start(answers).await;
    let mut world = world(&[dead(), follower.address], None, config());
    assert!(matches!(world.next().await, Some(SchedulerEvent::Disconnected { .. })));
    while !matches!(world.next().await, Some(SchedulerEvent::Subscribed { .. })) {}
    assert_eq!(follower.requests().len(), 7);
}

#[tokio::test]
async fn a_call_in_a_subscription_that_is_no_more_opens_it_again() {
    let open = "HTTP/1.1 200 OK\r\nMesos-Stream-Id: x\r\nContent-Length: 999999\r\n\r\n";
    let subscribed = r#"{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"fw"}}}"#;
    let open = format!("{open}{}\n{subscribed}", subscribed.len());
    for refusal in [
        answer("403 Forbidden", "", "Framework is not subscribed"),
        answer("400 Bad Request", "", "Framework cannot be found"),
        answer(
            "400 Bad Request",
            "",
            "The stream ID 'x' included in this request didn't match the stream ID currently associated with framework ID fw",
        ),
    ] {
        // The stream stays open meanwhile: only the call's answer says that it is dead.
        let master = Standing::start(open.clone().into_bytes(), refusal).await;
        let mut world = world(&[master.address], None, config());
        assert!(matches!(world.next().await, Some(SchedulerEvent::Subscribed { .. })));
        world.handle.revive(Vec::new()).await.unwrap_err();
        assert!(matches!(world.next().await, Some(SchedulerEvent::Disconnected { .. })));
        assert!(matches!(world.next().await, Some(SchedulerEvent::Subscribed { resubscribed: true, .. })));
    }
}

/// A master whose subscriptions stay open, and which answers every other call the same.
struct Standing {
    address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Standing {
    async fn start(open: Vec<u8>, other: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let Some(request) = try_read_request(&mut socket).await else { continue };
                let subscribe = request.body.contains("\"SUBSCRIBE\"");
                socket.write_all(if subscribe { &open } else { &other }).await.unwrap();
                kept.push(socket);
            }
        });
        Self { address, _accepting: accepting }
    }
}

#[tokio::test]
async fn an_update_that_nobody_acknowledges_comes_again_with_the_same_uuid() {
    let events = recorded("06_no_ack_retry.s1.bin").await;
    let statuses = statuses(&events);
    let first = statuses[0].uuid.as_ref().unwrap();
    assert!(statuses.iter().filter(|status| status.uuid.as_ref() == Some(first)).count() >= 3);
}

#[tokio::test]
async fn maintenance_comes_as_inverse_offers_and_its_offers_say_when() {
    let events = recorded("49_maintenance.s1.bin").await;
    let asked: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            SchedulerEvent::InverseOffers { inverse_offers } => Some(inverse_offers),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(asked.len() >= 2);
    assert!(asked[0].agent_id.is_some());
    assert_eq!(asked[0].unavailability.duration.unwrap().nanoseconds, 3_600_000_000_000);
    assert!(asked[0].unavailability.start.nanoseconds > 1_700_000_000_000_000_000);
    assert!(statuses(&events).iter().any(|status| status.state == TaskState::Lost), "the machine went down");
}

#[tokio::test]
async fn a_drained_agent_says_so_in_the_reasons() {
    let events = recorded("50_drain.s1.bin").await;
    let drained: Vec<_> = statuses(&events)
        .into_iter()
        .filter(|status| status.reason.as_deref() == Some(reason::AGENT_DRAINING))
        .map(|status| status.state)
        .collect();
    assert_eq!(drained.last(), Some(&TaskState::Killed));
}

#[tokio::test]
async fn a_report_about_an_operation_carries_what_its_acknowledgement_needs() {
    let events = recorded("17_reserve.s1.bin").await;
    let reports: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            SchedulerEvent::OperationStatus(status) => Some(status),
            _ => None,
        })
        .collect();
    assert_eq!(reports[0].state, OperationState::Finished);
    assert_eq!(reports[0].uuid.as_ref().unwrap().value, "tIGZppRKTKSOJeXogYKcLg==");
    assert_eq!(reports[0].operation_id.as_ref().unwrap().as_str(), "op-1");
    assert!(reports[0].agent_id.is_some());
    assert!(reports[1..].iter().all(|status| status.uuid.is_none()), "reconciliation has none");
    // What was reserved is offered with its reservation, and the volume is left alone.
    let offers = events.iter().filter_map(|event| match event {
        SchedulerEvent::Offers { offers, .. } => Some(offers),
        _ => None,
    });
    let reserved: Vec<_> = offers
        .flatten()
        .flat_map(|offer| &offer.resources)
        .filter(|resource| crate::resources::reserved_for(resource) == Some("rsv"))
        .collect();
    let (plain, volumes): (Vec<_>, Vec<_>) =
        reserved.into_iter().partition(|r| crate::resources::is_plain(r));
    assert!(!plain.is_empty() && !volumes.is_empty());
    assert!(volumes.iter().all(|r| r.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())));
}

#[tokio::test]
async fn an_agent_declared_gone_and_a_rescinded_offer_come_as_themselves() {
    let events = recorded("43_agent_gone.s1.bin").await;
    assert!(statuses(&events).iter().any(|status| status.state == TaskState::GoneByOperator
        && status.reason.as_deref() == Some(reason::AGENT_REMOVED_BY_OPERATOR)));
    assert!(events.iter().any(|event| matches!(event, SchedulerEvent::Failure(_))));
    let events = recorded("40_rescind.s1.bin").await;
    assert!(events.iter().any(|event| matches!(event, SchedulerEvent::Rescinded(_))));
}

#[tokio::test]
async fn a_failed_executor_is_told_before_its_task_with_the_raw_wait_status() {
    let events = recorded("10_executor_failures.s1.bin").await;
    let failure =
        events.iter().position(|event| matches!(event, SchedulerEvent::Failure(f) if f.status == Some(1792)));
    let failed = events.iter().position(
        |event| matches!(event, SchedulerEvent::Update(status) if status.reason.as_deref() == Some(reason::EXECUTOR_TERMINATED)),
    );
    assert!(failure.unwrap() < failed.unwrap());
    // A default executor that ends well is a FAILURE too, of status 0.
    let events = recorded("13_launch_group.s1.bin").await;
    assert!(events.iter().any(|event| matches!(event, SchedulerEvent::Failure(f) if f.status == Some(0))));
}
