//! The executor's own connection to its server: asked with how it is, told what to set.

use std::{fmt, time::Duration};

use overlord_engines::{AdminError, Change, Dialler, EngineAdmin, Health};
use tokio::sync::Mutex;

use crate::{Instance, LiveError, NoAnswer, machine::chain, workdir::begins_to_save};

/// Time for connecting to the server, and for one question.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The same for setting directives.
const SET_TIMEOUT: Duration = Duration::from_secs(10);

/// How our connections are called in the server's client list.
pub(crate) const CLIENT_NAME: &str = "overlord:executor";

/// The connection to the server; opened again when it fails.
#[derive(Default)]
pub struct Connection {
    dialler: Dialler,
    admin: Mutex<Option<Box<dyn EngineAdmin>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("dialler", &self.dialler).finish_non_exhaustive()
    }
}

impl Connection {
    /// Not opened yet.
    pub fn new(dialler: Dialler) -> Self {
        Self { dialler, admin: Mutex::default() }
    }

    /// Closes it: the server is another one from now on, or none.
    pub async fn close(&self) {
        *self.admin.lock().await = None;
    }

    /// See [`crate::Machine::probe`].
    pub async fn probe(&self, instance: &Instance) -> Result<Health, NoAnswer> {
        let mut admin = self.admin.lock().await;
        let result = async {
            let connection = if let Some(connection) = admin.take() {
                admin.insert(connection)
            } else {
                let (kind, address) = (instance.kind, instance.address);
                let opened = self.dialler.engine(kind, address, PROBE_TIMEOUT, Some(CLIENT_NAME));
                admin.insert(opened.await?)
            };
            connection.probe().await
        };
        let result: Result<Health, AdminError> = result.await;
        if result.is_err() {
            *admin = None;
        }
        result.map_err(|error| NoAnswer(chain(&error)))
    }

    /// See [`crate::Machine::set_live`].
    pub async fn set_live(&self, instance: &Instance, changes: &[Change]) -> Result<(), LiveError> {
        // Apart from the probes: older servers evict what is too much before they answer.
        let connection = self.dialler.engine(instance.kind, instance.address, SET_TIMEOUT, Some(CLIENT_NAME));
        let result = match connection.await {
            Ok(mut connection) => match connection.set_live(changes).await {
                // The first of its save points may be an hour away, and an append-only file is not kept any more.
                Ok(()) if begins_to_save(changes) => {
                    if let Err(error) = connection.save().await {
                        tracing::warn!(error = chain(&error), "no snapshot is taken at once");
                    }
                    Ok(())
                }
                outcome => outcome,
            },
            Err(error) => Err(error),
        };
        result.map_err(|error| match error {
            AdminError::Refused { .. }
            | AdminError::RefusedDirective { .. }
            | AdminError::ReadBack { .. }
            | AdminError::NotLive { .. }
            | AdminError::Unsupported { .. } => LiveError::Refused(chain(&error)),
            AdminError::Connect { .. }
            | AdminError::Timeout { .. }
            | AdminError::Broken { .. }
            | AdminError::Closed { .. }
            | AdminError::Protocol { .. }
            | AdminError::View { .. }
            | AdminError::Replication { .. }
            | AdminError::Loading { .. }
            | AdminError::Fenced { .. } => LiveError::NoAnswer(chain(&error)),
        })
    }
}
