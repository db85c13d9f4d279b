//! Simulation: the real controllers, loop, Mesos client and executor logic in virtual time.
