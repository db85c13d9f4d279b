//! What a call must carry, and what Mesos answers when it does not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use overlord_mesos::v1::{Source, TaskState, executor, scheduler};

/// Checks a scheduler's call as far as its own fields go.
pub(crate) fn scheduler_call(call: &scheduler::Call) -> Result<(), String> {
    use scheduler::CallType as Type;
    let fail = |what: &str| Err(format!("Failed to validate scheduler::Call: {what}"));
    let expect = |present: bool, field: &str| {
        if present { Ok(()) } else { fail(&format!("Expecting '{field}' to be present")) }
    };
    expect(call.kind != Type::Unknown, "type")?;
    if call.kind == Type::Subscribe {
        expect(call.subscribe.is_some(), "subscribe")?;
        let inner = call.subscribe.as_ref().and_then(|subscribe| subscribe.framework_info.id.as_ref());
        return if call.framework_id.as_ref() == inner {
            Ok(())
        } else {
            fail("'framework_id' differs from 'subscribe.framework_info.id'")
        };
    }
    expect(call.framework_id.is_some(), "framework_id")?;
    match call.kind {
        Type::Accept => expect(call.accept.is_some(), "accept"),
        Type::Decline => expect(call.decline.is_some(), "decline"),
        Type::Kill => expect(call.kill.is_some(), "kill"),
        Type::Shutdown => expect(call.shutdown.is_some(), "shutdown"),
        Type::Reconcile => expect(call.reconcile.is_some(), "reconcile"),
        Type::Message => expect(call.message.is_some(), "message"),
        Type::Acknowledge => {
            expect(call.acknowledge.is_some(), "acknowledge")?;
            let valid = call.acknowledge.as_ref().is_some_and(|a| is_uuid(&a.uuid));
            if valid { Ok(()) } else { fail("Not a valid UUID") }
        }
        Type::AcceptInverseOffers => expect(call.accept_inverse_offers.is_some(), "accept_inverse_offers"),
        Type::DeclineInverseOffers => expect(call.decline_inverse_offers.is_some(), "decline_inverse_offers"),
        Type::AcknowledgeOperationStatus => {
            expect(call.acknowledge_operation_status.is_some(), "acknowledge_operation_status")?;
            let agent = call.acknowledge_operation_status.as_ref().and_then(|a| a.agent_id.as_ref());
            expect(agent.is_some(), "agent_id")?;
            let valid = call.acknowledge_operation_status.as_ref().is_some_and(|a| is_uuid(&a.uuid));
            if valid { Ok(()) } else { fail("Not a valid UUID") }
        }
        Type::ReconcileOperations => expect(call.reconcile_operations.is_some(), "reconcile_operations"),
        Type::Request => expect(call.request.is_some(), "request"),
        Type::UpdateFramework => {
            expect(call.update_framework.is_some(), "update_framework")?;
            let inner = call.update_framework.as_ref().and_then(|update| update.framework_info.id.as_ref());
            if call.framework_id.as_ref() == inner {
                Ok(())
            } else {
                fail("'framework_id' differs from 'update_framework.framework_info.id'")
            }
        }
        Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress | Type::Unknown => Ok(()),
    }
}

/// Checks an executor's call as far as its own fields go.
pub(crate) fn executor_call(call: &executor::Call) -> Result<(), String> {
    use executor::CallType as Type;
    let expect = |present: bool, field: &str| {
        if present {
            Ok(())
        } else {
            Err(format!("Failed to validate Executor::Call: Expecting '{field}' to be present"))
        }
    };
    match call.kind {
        Type::Heartbeat => Ok(()),
        Type::Unknown => expect(false, "type"),
        Type::Subscribe => expect(call.subscribe.is_some(), "subscribe"),
        Type::Message => expect(call.message.is_some(), "message"),
        Type::Update => {
            expect(call.update.is_some(), "update")?;
            call.update.as_ref().map_or(Ok(()), |update| executor_update(call, update))
        }
    }
}

fn executor_update(call: &executor::Call, update: &executor::Update) -> Result<(), String> {
    let status = &update.status;
    let fail = |what: String| Err(format!("Failed to validate Executor::Call: {what}"));
    let Some(uuid) = &status.uuid else { return fail("Expecting 'uuid' to be present".to_owned()) };
    if !is_uuid(uuid) {
        return fail("Not a valid UUID".to_owned());
    }
    let (executor, framework) = (&call.executor_id, &call.framework_id);
    if let Some(other) = &status.executor_id
        && other != executor
    {
        return fail(format!(
            "ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {other}"
        ));
    }
    if status.source != Some(Source::Executor) {
        return fail(format!(
            "Received Call from executor {executor} of framework {framework} with invalid source, expecting \
             'SOURCE_EXECUTOR'"
        ));
    }
    if status.state == TaskState::Staging {
        return fail(format!(
            "Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed"
        ));
    }
    Ok(())
}

/// base64 of 16 bytes.
fn is_uuid(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 16)
}
