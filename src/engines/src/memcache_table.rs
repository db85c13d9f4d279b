//! What people may set on memcached 1.5 and 1.6: long options, and the sub-options of `--extended` under
//! their own names. From `memcached.c` of 1.5.0, 1.5.22, 1.6.0, 1.6.18 and 1.6.32: what is here is in all
//! of the releases it is listed for, with these bounds.

use crate::{
    directive::{Directive, Form},
    value::ValueType::{self, Bool, Decimal, Enum, Int, Seconds, Size},
};

/// Chunks of 512 KiB: a larger item is a whole number of them, a smaller one is refused at start.
const CHUNK: u64 = 512 << 10;

const fn option(name: &'static str, value: ValueType, default: &'static str) -> Directive {
    Directive::new(name, value, false, default).form(Form::Option)
}

const fn flag(name: &'static str) -> Directive {
    Directive::new(name, Bool, false, "no").form(Form::Flag)
}

const fn extended(name: &'static str, value: ValueType, default: &'static str) -> Directive {
    Directive::new(name, value, false, default).form(Form::Extended)
}

const fn toggle(name: &'static str) -> Directive {
    Directive::new(name, Bool, false, "yes").form(Form::ExtendedToggle)
}

/// Sorted by name.
pub(crate) const OPTIONS: &[Directive] = &[
    option("conn-limit", Int { min: 1, max: 1_000_000 }, "1024"),
    flag("disable-cas"),
    flag("disable-dumping"),
    flag("disable-evictions"),
    flag("disable-flush-all"),
    flag("disable-watch").since(1, 6),
    extended("hash_algorithm", Enum(&["murmur3", "jenkins"]), "murmur3"),
    extended("hashpower", Int { min: 12, max: 32 }, "0").no_default(),
    extended("hot_lru_pct", Int { min: 1, max: 79 }, "20"),
    extended("hot_max_factor", Decimal { min: 0.01, max: 100.0 }, "0.2"),
    extended("idle_timeout", Seconds { min: 0 }, "0"),
    option("listen-backlog", Int { min: 1, max: 65_535 }, "1024"),
    toggle("lru_crawler"),
    extended("lru_crawler_sleep", Int { min: 0, max: 1_000_000 }, "100"),
    extended("lru_crawler_tocrawl", Int { min: 0, max: i32::MAX as i64 }, "0"),
    toggle("lru_maintainer"),
    option("max-item-size", Size { min: CHUNK, max: 1 << 30, step: CHUNK }, "1048576"),
    option("max-reqs-per-event", Int { min: 1, max: 100_000 }, "20"),
    toggle("maxconns_fast"),
    // MiB. The only option that the running server takes, by `cache_memlimit`, which refuses less than 8.
    Directive::new("memory-limit", Int { min: 8, max: 1_000_000 }, true, "64").form(Form::Option),
    option("protocol", Enum(&["auto", "ascii"]), "auto"),
    extended("read_buf_mem_limit", Int { min: 0, max: 1_000_000 }, "0").since(1, 6),
    option("slab-growth-factor", Decimal { min: 1.01, max: 100.0 }, "1.25"),
    option("slab-min-size", Int { min: 1, max: 1024 }, "48"),
    extended("slab_automove", Int { min: 0, max: 2 }, "1"),
    extended("slab_automove_ratio", Decimal { min: 0.01, max: 1.0 }, "0.8"),
    extended("slab_automove_window", Int { min: 3, max: 1_000_000 }, "30"),
    toggle("slab_reassign"),
    // Being there at all switches the separate LRU on.
    extended("temporary_ttl", Int { min: 1, max: i32::MAX as i64 }, "61").no_default(),
    option("threads", Int { min: 1, max: 64 }, "4"),
    Directive::new("track_sizes", Bool, false, "no").form(Form::ExtendedFlag),
    // 3 would print every command into console.log.
    Directive::new("verbose", Int { min: 0, max: 2 }, true, "0").form(Form::Count),
    extended("warm_lru_pct", Int { min: 1, max: 79 }, "40"),
    extended("warm_max_factor", Decimal { min: 0.01, max: 100.0 }, "2"),
    extended("watcher_logbuf_size", Int { min: 64, max: 1_048_576 }, "256"),
];
