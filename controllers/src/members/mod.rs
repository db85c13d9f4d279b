//! The members of a cluster, phase by phase: what is seen of them, the plan, its steps, their effects, what is
//! told. `Redis` and `Memcache`, whose members are independent of each other, need no more than this; what a
//! `RedisCluster` plans besides is in `redis_cluster`.

pub(crate) mod apply;
pub mod confs;
pub mod observed;
pub mod plan;
pub(crate) mod status;
pub mod step;
