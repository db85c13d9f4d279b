//! End-to-end tests: the real binary, real etcd, redis and memcached, a sandbox for each test.
