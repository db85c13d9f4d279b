//! `INFO`: the sections and fields that somebody reads.

use std::fmt::Write as _;

use crate::model::redis::{
    Pid, Redises,
    process::{Link, Process},
    resp,
};

impl Redises {
    pub(super) fn info(&self, pid: Pid, words: &[&str]) -> Vec<u8> {
        let Some(process) = self.processes.get(&pid) else { return resp::error("ERR") };
        let wants = |section: &str| {
            words.is_empty()
                || words.iter().any(|word| {
                    ["all", "default", "everything", section]
                        .iter()
                        .any(|name| word.eq_ignore_ascii_case(name))
                })
        };
        let mut text = String::new();
        let sections: [(&str, &dyn Fn() -> String); 6] = [
            ("server", &|| self.server(process)),
            ("persistence", &|| persistence(process)),
            ("stats", &|| stats(process)),
            ("replication", &|| self.replication(process)),
            ("cluster", &|| {
                format!("# Cluster\r\ncluster_enabled:{}\r\n", u8::from(process.cluster.is_some()))
            }),
            ("keyspace", &|| keyspace(process)),
        ];
        for (name, section) in sections {
            if wants(name) {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                text.push_str(&section());
            }
        }
        resp::bulk(text.as_bytes())
    }

    fn server(&self, process: &Process) -> String {
        let mode = if process.cluster.is_some() { "cluster" } else { "standalone" };
        format!(
            "# Server\r\nredis_version:7.0.15\r\nredis_mode:{mode}\r\nos:Linux\r\narch_bits:64\r\n\
             process_id:{}\r\nrun_id:{:040x}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\nhz:10\r\n",
            process.pid.0,
            process.pid.0,
            process.address.port,
            self.now.saturating_sub(process.started).as_secs()
        )
    }

    fn replication(&self, process: &Process) -> String {
        let repl = &process.repl;
        let mut text = "# Replication\r\n".to_owned();
        let down_for =
            repl.down_since.map_or(-1, |since| self.now.saturating_sub(since).as_secs().cast_signed());
        if let Some(master) = repl.master {
            let up = matches!(repl.link, Link::Up(..));
            let syncing = matches!(repl.link, Link::Syncing(..));
            let quiet = match repl.link {
                Link::Up(_, quiet) => {
                    quiet.map_or(0, |since| self.now.saturating_sub(since).as_secs().cast_signed())
                }
                Link::Down | Link::Syncing(..) => -1,
            };
            let _ = write!(
                text,
                "role:slave\r\nmaster_host:{}\r\nmaster_port:{}\r\nmaster_link_status:{}\r\n\
                 master_last_io_seconds_ago:{quiet}\r\nmaster_sync_in_progress:{}\r\n\
                 slave_read_repl_offset:{offset}\r\nslave_repl_offset:{offset}\r\n",
                master.ip,
                master.port,
                if up { "up" } else { "down" },
                u8::from(syncing),
                offset = repl.offset,
            );
            if !up {
                let _ = write!(text, "master_link_down_since_seconds:{down_for}\r\n");
            }
            text.push_str("slave_priority:100\r\nslave_read_only:1\r\nreplica_announced:1\r\n");
        } else {
            text.push_str("role:master\r\n");
        }
        let replicas = self.replicas(process.pid);
        let _ = write!(text, "connected_slaves:{}\r\n", replicas.len());
        for (number, replica) in replicas.iter().filter_map(|pid| self.processes.get(pid)).enumerate() {
            let (state, offset) = match replica.repl.link {
                Link::Up(..) => ("online", replica.repl.offset),
                Link::Down | Link::Syncing(..) => ("send_bulk", 0),
            };
            let address = replica.address;
            let _ = write!(
                text,
                "slave{number}:ip={},port={},state={state},offset={offset},lag=0\r\n",
                address.ip, address.port
            );
        }
        let former = repl.former.map_or_else(|| "0".repeat(40), |(id, _)| id.to_string());
        let second = repl.former.map_or(-1, |(_, offset)| offset.cast_signed() + 1);
        let _ = write!(
            text,
            "master_failover_state:no-failover\r\nmaster_replid:{}\r\nmaster_replid2:{former}\r\n\
             master_repl_offset:{}\r\nsecond_repl_offset:{second}\r\nrepl_backlog_active:{}\r\n",
            repl.id,
            repl.offset,
            u8::from(repl.backlog.is_some())
        );
        text
    }
}

fn persistence(process: &Process) -> String {
    let appends = process.conf.is("appendonly");
    let mut text = format!(
        "# Persistence\r\nloading:{}\r\nasync_loading:0\r\nrdb_changes_since_last_save:{}\r\n\
         rdb_bgsave_in_progress:0\r\nrdb_last_save_time:{}\r\nrdb_last_bgsave_status:{}\r\naof_enabled:{}\r\n\
         aof_rewrite_in_progress:0\r\naof_last_bgrewrite_status:ok\r\naof_last_write_status:ok\r\n",
        u8::from(process.loading),
        process.dirty,
        process.saved_at.as_secs(),
        if process.save_failed { "err" } else { "ok" },
        u8::from(appends),
    );
    if appends {
        text.push_str(
            "aof_current_size:0\r\naof_base_size:0\r\naof_buffer_length:0\r\naof_pending_bio_fsync:0\r\n",
        );
    }
    if process.loading {
        text.push_str("loading_start_time:0\r\nloading_loaded_perc:50.00\r\n");
    }
    text
}

fn stats(process: &Process) -> String {
    let (full, partial) = process.repl.syncs;
    format!("# Stats\r\nsync_full:{full}\r\nsync_partial_ok:{partial}\r\nsync_partial_err:0\r\n")
}

fn keyspace(process: &Process) -> String {
    match process.keys.len() {
        // While it is read, nothing is told of it.
        0 => "# Keyspace\r\n".to_owned(),
        _ if process.loading => "# Keyspace\r\n".to_owned(),
        keys => format!("# Keyspace\r\ndb0:keys={keys},expires=0,avg_ttl=0\r\n"),
    }
}
