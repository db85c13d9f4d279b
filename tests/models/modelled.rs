//! A script's processes in the model.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use overlord_api::Address;
use overlord_tests::model::redis::{ClientId, DirId, Dump, NoConnection, Outcome, Pid, Redises};

use crate::stage::PORT;

pub(crate) struct Modelled {
    pub(crate) now: Duration,
    redises: Redises,
    pids: BTreeMap<usize, Pid>,
    dumps: BTreeMap<usize, Option<Dump>>,
    places: BTreeMap<usize, usize>,
}

impl Modelled {
    pub(crate) fn new(name: &str) -> Self {
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Self {
            now: Duration::from_secs(1000),
            redises: Redises::new(seed),
            pids: BTreeMap::new(),
            dumps: BTreeMap::new(),
            places: BTreeMap::new(),
        }
    }

    pub(crate) fn ip(n: usize) -> IpAddr {
        [127, 9, 9, n as u8 + 1].into()
    }

    fn dir(n: usize) -> DirId {
        DirId(format!("n{n}"))
    }

    pub(crate) fn place(&self, n: usize) -> usize {
        self.places.get(&n).copied().unwrap_or(n)
    }

    pub(crate) fn relocate(&mut self, n: usize, to: usize) {
        self.places.insert(n, to);
    }

    pub(crate) fn start(&mut self, n: usize, conf: &str) -> Result<(), String> {
        let pid = self.redises.start(self.now, &Self::dir(n), conf)?;
        self.pids.insert(n, pid);
        Ok(())
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.redises.advance(self.now);
    }

    pub(crate) fn kill(&mut self, n: usize, graceful: bool) {
        if let Some(pid) = self.pids.remove(&n) {
            self.redises.kill(self.now, pid, graceful);
        }
    }

    pub(crate) fn pause(&mut self, n: usize, paused: bool) {
        let pid = self.pids[&n];
        if paused { self.redises.pause(self.now, pid) } else { self.redises.resume(self.now, pid) }
    }

    pub(crate) fn nodes_conf(&mut self, n: usize) -> &mut Option<String> {
        &mut self.redises.files(&Self::dir(n)).nodes_conf
    }

    pub(crate) fn keep_dump(&mut self, n: usize) {
        let dump = self.redises.files(&Self::dir(n)).dump.clone();
        self.dumps.insert(n, dump);
    }

    pub(crate) fn put_dump(&mut self, n: usize) {
        self.redises.files(&Self::dir(n)).dump = self.dumps[&n].clone();
    }

    pub(crate) fn drop_dump(&mut self, n: usize) {
        self.redises.files(&Self::dir(n)).dump = None;
    }

    pub(crate) fn ask(&mut self, n: usize, commands: &[Vec<String>]) -> Vec<String> {
        let address = Address::new(Self::ip(self.place(n)), PORT);
        // A millisecond for each exchange, as on a wire.
        self.pass(Duration::from_millis(1));
        let client = match self.redises.connect(self.now, address) {
            Ok(client) => client,
            Err(NoConnection::Refused) => return vec!["(refused)".to_owned(); commands.len()],
            Err(NoConnection::Silent) => return vec!["(silent)".to_owned(); commands.len()],
        };
        let replies = commands.iter().map(|words| self.one(client, words)).collect();
        self.redises.disconnect(self.now, client);
        replies
    }

    fn one(&mut self, client: ClientId, words: &[String]) -> String {
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        match self.redises.command(self.now, client, &words) {
            Outcome::Reply(bytes) => String::from_utf8(bytes).unwrap(),
            Outcome::Silent => "(silent)".to_owned(),
            Outcome::Closed => "(closed)".to_owned(),
        }
    }

    /// Whether nothing at all is about to happen.
    pub(crate) fn is_quiet(&self) -> bool {
        self.redises.next_event().is_none()
    }
}
