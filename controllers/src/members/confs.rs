//! The configurations that processes should have. Each plan compares them with what is recorded, of every member:
//! a text is rendered once for an accepted spec and an address, and its digest kept.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use overlord_api::{Address, Cluster, Spec};
use overlord_engines::{ConfError, ConfInput, ServerConf};

use crate::{Digest, digest, shared::lock};

/// Addresses kept beyond twice those in use: members that move leave theirs behind.
const SPARE: usize = 16;

/// By where a process listens: its address, and the port of its bus. None: there is no such text.
type Digests = BTreeMap<(Address, Option<u16>), Option<Digest>>;

/// The digests under one spec.
#[derive(Debug, Default)]
pub struct Confs {
    digests: Mutex<Digests>,
}

impl Confs {
    /// The digest of the text of a process there, if there is one. `spec` is the same in every call.
    pub(crate) fn digest(&self, spec: &Spec, address: Address, bus_port: Option<u16>) -> Option<Digest> {
        *lock(&self.digests)
            .entry((address, bus_port))
            .or_insert_with(|| Some(digest(render(spec, address, bus_port).ok()?.as_bytes())))
    }
}

/// The digests under the spec that was accepted last.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<(Arc<Cluster>, Arc<Confs>)>);

impl Kept {
    /// Those of `cluster`, which has so many instances.
    pub(crate) fn of(&mut self, cluster: &Arc<Cluster>, instances: usize) -> Arc<Confs> {
        // An accepted spec is never changed in place.
        let held = self.0.as_ref().filter(|(of, _)| Arc::ptr_eq(of, cluster)).map(|(_, confs)| confs);
        let held = held.filter(|confs| lock(&confs.digests).len() <= 2 * instances + SPARE).cloned();
        held.unwrap_or_else(|| {
            let confs = Arc::new(Confs::default());
            self.0 = Some((Arc::clone(cluster), Arc::clone(&confs)));
            confs
        })
    }
}

/// The text of an instance's process under a spec.
pub(crate) fn render(spec: &Spec, address: Address, bus_port: Option<u16>) -> Result<String, ConfError> {
    let conf = ServerConf::render(&ConfInput {
        kind: spec.shape.kind(),
        version: &spec.version,
        address,
        bus_port,
        resources: spec.resources,
        config: &spec.config,
        persistence: spec.persistence,
    })?;
    Ok(conf.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn cluster(memory: u64) -> Arc<Cluster> {
        let mut spec = samples::spec(1);
        spec.resources.memory = memory;
        Arc::new(Cluster { name: samples::cluster(), labels: BTreeMap::new(), spec })
    }

    fn address(port: u16) -> Address {
        Address::new([10, 0, 0, 1].into(), port)
    }

    #[test]
    fn another_spec_or_address_has_another_text() {
        let (small, large) = (cluster(256 << 20), cluster(512 << 20));
        let mut kept = Kept::default();
        let mut of = |cluster: &Arc<Cluster>, port| {
            let kept = kept.of(cluster, 1).digest(&cluster.spec, address(port), None);
            let text = render(&cluster.spec, address(port), None).unwrap();
            assert_eq!(kept, Some(digest(text.as_bytes())));
            kept
        };
        let first = of(&small, 20_000);
        assert_ne!(first, of(&small, 20_001));
        assert_ne!(first, of(&large, 20_000));
        assert_eq!(first, of(&small, 20_000));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let cluster = cluster(256 << 20);
        let mut kept = Kept::default();
        for port in 20_000..21_000 {
            let confs = kept.of(&cluster, 1);
            confs.digest(&cluster.spec, address(port), None);
            assert!(lock(&confs.digests).len() <= 2 + SPARE + 1);
        }
    }
}
