//! The engines' rules, narrowed to what one installation has: its catalogue, and the kinds it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::{Cluster, Engine, Kind, RuleFault, Rules};

/// Rules of one installation. The API and the controller ask the same ones.
#[derive(Clone)]
pub struct InstalledRules {
    rules: Arc<dyn Rules + Send + Sync>,
    versions: BTreeMap<Engine, BTreeSet<String>>,
    kinds: BTreeSet<Kind>,
}

impl fmt::Debug for InstalledRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstalledRules")
            .field("versions", &self.versions)
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl InstalledRules {
    /// `rules`, for these versions and kinds alone.
    pub fn new(
        rules: Arc<dyn Rules + Send + Sync>,
        versions: BTreeMap<Engine, BTreeSet<String>>,
        kinds: impl IntoIterator<Item = Kind>,
    ) -> Self {
        Self { rules, versions, kinds: kinds.into_iter().collect() }
    }
}

impl Rules for InstalledRules {
    fn version(&self, engine: Engine, version: &str) -> Result<(), RuleFault> {
        self.rules.version(engine, version)?;
        let versions = self.versions.get(&engine);
        if versions.is_some_and(|versions| versions.contains(version)) {
            return Ok(());
        }
        let known: Vec<&str> = versions.into_iter().flatten().map(String::as_str).collect();
        let hint = if known.is_empty() {
            format!("add [engines.{engine}.\"{version}\"] to the controller's settings")
        } else {
            format!("this controller has {}", known.join(", "))
        };
        Err(RuleFault::new(format!("{engine} {version} is not in the controller's catalogue")).hint(hint))
    }

    fn directive(&self, kind: Kind, version: &str, name: &str, value: &str) -> Result<(), RuleFault> {
        self.rules.directive(kind, version, name, value)
    }

    fn whole(&self, cluster: &Cluster) -> Vec<(String, RuleFault)> {
        let mut faults = self.rules.whole(cluster);
        let kind = cluster.spec.shape.kind();
        if !self.kinds.contains(&kind) {
            let runs: Vec<&str> = self.kinds.iter().map(|kind| kind.manifest_kind()).collect();
            let fault = RuleFault::new(format!("{} is not run by this controller", kind.manifest_kind()));
            faults.push((String::from("kind"), fault.hint(format!("it runs {}", runs.join(", ")))));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterName, check::Accepted, parse_key};

    fn judged(kind: &str, size: &str, version: &str) -> Vec<String> {
        let versions = [(Engine::Redis, BTreeSet::from([String::from("7.0.15")]))].into();
        let rules = InstalledRules::new(Arc::new(Accepted), versions, [Kind::Redis]);
        let text = format!(
            "apiVersion: overlord/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n  version: \"{version}\"\n  \
             {size}\n  resources: {{memory: 64Mi}}\n"
        );
        let name = ClusterName::new("a").unwrap();
        parse_key(&name, text.as_bytes(), &rules)
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn what_is_not_installed_is_refused_where_it_stands() {
        assert_eq!(judged("Redis", "shards: 1", "7.0.15"), [""; 0]);
        assert_eq!(
            judged("Redis", "shards: 1", "7.0.1"),
            [
                "5:12: spec.version: redis 7.0.1 is not in the controller's catalogue; this controller has 7.0.15"
            ]
        );
        assert_eq!(
            judged("RedisCluster", "masters: 3\n  replicasPerMaster: 1", "7.0.15"),
            ["2:1: kind: RedisCluster is not run by this controller; it runs Redis"]
        );
    }
}
