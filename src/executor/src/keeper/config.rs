//! The keys: reading them again and again, and following what they want.

use std::time::Duration;

use super::{Applied, Effect, Ending, Keeper, Phase, Process, Timer};
use crate::{Instance, Keys};

/// The first pause after a failed read; doubled with each next one, up to a quarter of the slow re-read.
const FIRST_READ_RETRY: Duration = Duration::from_millis(200);

impl Keeper {
    /// Reads, unless a read is under way; then again after that one, as it may have missed what we want.
    pub(super) fn read_now(&mut self) {
        if self.reads.under_way {
            self.reads.again = true;
            return;
        }
        self.read_anew();
    }

    /// Reads, and disregards whatever read is under way.
    pub(super) fn read_anew(&mut self) {
        let Some(task) = &self.task else { return };
        if matches!(self.phase, Phase::Finishing | Phase::CleaningUp | Phase::Done) {
            return;
        }
        self.reads.number += 1;
        self.reads.under_way = true;
        self.reads.again = false;
        let (cluster, address) = (task.cluster.clone(), task.address);
        self.effects.push(Effect::Read { number: self.reads.number, cluster, address });
    }

    pub(super) fn on_read(&mut self, number: u64, keys: Result<Option<Keys>, String>) {
        if number != self.reads.number {
            return;
        }
        self.reads.under_way = false;
        if self.ending.is_some() {
            if self.ending == Some(Ending::Killed) {
                self.last_word = Some(keys);
            }
            return;
        }
        match keys {
            Ok(keys) => {
                self.reads.failures = 0;
                self.apply_later = false;
                if self.phase == Phase::Reading {
                    self.first_keys(keys);
                } else if let Some(keys) = keys {
                    self.take(keys);
                } else {
                    // Absence is not an order: only a KILL ends a server.
                    tracing::warn!(
                        "the keys of this instance are gone from etcd; it is kept until a KILL comes"
                    );
                }
                if self.ending.is_none() {
                    let after = self.jittered(self.limits.reread);
                    self.arm(Timer::Reread, after);
                }
            }
            Err(why) => {
                tracing::warn!(why, "cannot read the keys of this instance");
                if self.phase == Phase::Reading {
                    self.notes.config = format!("waiting for etcd: {why}");
                }
                self.reads.last_error = why;
                let pause = FIRST_READ_RETRY.saturating_mul(1 << self.reads.failures.min(16));
                let after = self.jittered(pause.min(self.limits.reread / 4));
                self.reads.failures += 1;
                self.arm(Timer::Reread, after);
            }
        }
        if self.reads.again {
            self.read_now();
        }
    }

    fn first_keys(&mut self, keys: Option<Keys>) {
        let Some(task) = &self.task else { return };
        self.notes.config.clear();
        let Some(keys) = keys else {
            let key = overlord_api::keys::info(&task.cluster, task.address);
            return self.fail(format!(
                "etcd has no {key}: the instance was deleted meanwhile, or this is another etcd"
            ));
        };
        match Instance::new(&task.cluster, task.address, &task.id, &keys.info) {
            Ok(instance) => {
                self.instance = Some(instance);
                // What was said to an earlier launch.
                self.recover = keys.info.desired.recover;
                self.keys = Some(keys);
                self.prepare();
            }
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn take(&mut self, keys: Keys) {
        let Some(instance) = &mut self.instance else { return };
        match Instance::new(&instance.cluster, instance.address, &instance.task_id, &keys.info) {
            Ok(now)
                if (&now.uid, now.member, now.incarnation)
                    == (&instance.uid, instance.member, instance.incarnation) =>
            {
                instance.on_disk = now.on_disk;
                self.keys = Some(keys);
            }
            Ok(_) => tracing::warn!("the keys of this address are now those of another member; not followed"),
            Err(error) => {
                tracing::warn!(%error, "the keys of this address are not ours any more; not followed");
            }
        }
    }

    /// Configuration first, then ordered restarts; one thing at a time.
    pub(super) fn follow_desired(&mut self) {
        let (Some(keys), Some(instance)) = (&self.keys, &self.instance) else { return };
        if self.applying.is_some() || !matches!(self.process, Process::Lives(_)) {
            return;
        }
        let desired = &keys.info.desired;
        if self.phase == Phase::Serving && self.report.config_refused != Some(desired.config) {
            if keys.server_conf == self.file {
                if self.report.config != desired.config {
                    self.report.config = desired.config;
                    self.report.config_refused = None;
                    self.notes.config.clear();
                }
            } else if !self.apply_later {
                self.applying = Some((desired.config, keys.server_conf.clone()));
                self.effects.push(Effect::Apply {
                    instance: instance.clone(),
                    started: self.launch.conf.clone(),
                    old: self.file.clone(),
                    new: keys.server_conf.clone(),
                });
                return;
            }
        }
        if desired.restart > self.launch.restart {
            self.bounce();
        }
    }

    pub(super) fn on_applied(&mut self, applied: Applied) {
        let Some((number, text)) = self.applying.take() else { return };
        match applied {
            Applied::Accepted { needs_restart } => {
                self.file = text;
                self.report.config = number;
                self.report.config_refused = None;
                self.report.restart_needed = needs_restart;
                self.notes.config.clear();
            }
            Applied::Refused(words) => {
                self.report.config_refused = Some(number);
                self.notes.config = format!("configuration {number} refused: {words}");
            }
            Applied::Failed(why) => {
                self.apply_later = true;
                self.notes.config = format!("configuration {number} is not applied yet: {why}");
                let after = self.jittered((self.limits.reread / 12).max(Duration::from_millis(100)));
                self.arm(Timer::Reread, after);
            }
        }
    }
}
