//! Choosing ports of one offer. Ports are only ever taken during an assignment, never given back, so each
//! search goes on where the last one ended.

use crate::{Bus, Reason};

/// Distance of the bus port where it cannot be chosen (redis < 7).
const BUS_OFFSET: u32 = 10_000;

/// The ports of one offer. Numbers are `u32` so that the end of a search can be beyond 65535.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    /// Sorted, apart, none empty, without port 0.
    ranges: Vec<(u32, u32)>,
    /// No free port is below.
    lowest: u32,
    /// No free port is above.
    highest: u32,
    /// No free pair with both ports offered begins below.
    pair: u32,
    /// No free pair with only the data port offered begins below.
    half_pair: u32,
}

impl Ports {
    pub(crate) fn new(ranges: &[(u16, u16)]) -> Self {
        let clean = ranges.iter().map(|(low, high)| (u32::from(*low).max(1), u32::from(*high)));
        let mut sorted: Vec<(u32, u32)> = clean.filter(|(low, high)| low <= high).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = Vec::with_capacity(sorted.len());
        for (low, high) in sorted {
            match ranges.last_mut() {
                Some(last) if low <= last.1 => last.1 = last.1.max(high),
                Some(_) | None => ranges.push((low, high)),
            }
        }
        Self { ranges, lowest: 0, highest: u32::from(u16::MAX), pair: 0, half_pair: 0 }
    }

    /// No more members than this can have ports, perhaps fewer.
    pub(crate) fn at_most(&self, bus: Bus) -> u64 {
        let ports = self.ranges.iter().map(|(low, high)| u64::from(high - low) + 1).sum::<u64>();
        match bus {
            Bus::None | Bus::Unreserved => ports,
            Bus::AnyPort | Bus::Plus10000 => ports / 2,
        }
    }

    fn offers(&self, port: u32) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&port))
    }

    /// The lowest offered port from `from` on that satisfies `good`.
    fn find(&self, from: u32, good: impl Fn(u32) -> bool) -> Option<u32> {
        self.ranges.iter().find_map(|(low, high)| (from.max(*low)..=*high).find(|port| good(*port)))
    }

    /// The data and bus port for a member, lowest data port first.
    pub(crate) fn choose(&mut self, bus: Bus, busy: impl Fn(u32) -> bool) -> Option<(u16, Option<u16>)> {
        const BEYOND: u32 = u16::MAX as u32 + 1;
        let data = match bus {
            Bus::None | Bus::AnyPort => {
                self.lowest = self.find(self.lowest, |port| !busy(port)).unwrap_or(BEYOND);
                self.lowest
            }
            Bus::Plus10000 => {
                let free = |port| !busy(port) && self.offers(port + BUS_OFFSET) && !busy(port + BUS_OFFSET);
                self.pair = self.find(self.pair, free).unwrap_or(BEYOND);
                self.pair
            }
            Bus::Unreserved => {
                let free = |port| !busy(port) && is_port(port + BUS_OFFSET) && !busy(port + BUS_OFFSET);
                self.half_pair = self.find(self.half_pair, free).unwrap_or(BEYOND);
                self.half_pair
            }
        };
        if data == BEYOND { None } else { self.complete(data, bus, busy) }
    }

    /// The given data port with a bus port, if both are free.
    pub(crate) fn choose_exactly(
        &mut self,
        data: u16,
        bus: Bus,
        busy: impl Fn(u32) -> bool,
    ) -> Option<(u16, Option<u16>)> {
        let data = u32::from(data);
        if !self.offers(data) || busy(data) { None } else { self.complete(data, bus, busy) }
    }

    fn complete(&mut self, data: u32, bus: Bus, busy: impl Fn(u32) -> bool) -> Option<(u16, Option<u16>)> {
        let bus = match bus {
            Bus::None => return Some((data as u16, None)),
            Bus::AnyPort => {
                // From the other end, so that data ports stay together.
                let free = |from: u32, but: Option<u32>| {
                    let mut down = self.ranges.iter().rev().map(|(low, high)| *low..=from.min(*high));
                    down.find_map(|ports| ports.rev().find(|port| Some(*port) != but && !busy(*port)))
                };
                let highest = free(self.highest, None).unwrap_or(0);
                let chosen = if highest == data { free(highest, Some(data)) } else { Some(highest) };
                self.highest = highest;
                chosen.filter(|port| *port != 0)?
            }
            Bus::Plus10000 => Some(data + BUS_OFFSET).filter(|port| self.offers(*port) && !busy(*port))?,
            Bus::Unreserved => Some(data + BUS_OFFSET).filter(|port| is_port(*port) && !busy(*port))?,
        };
        Some((data as u16, Some(bus as u16)))
    }

    /// Why there is no choice: nothing suitable is offered, or all of it is taken.
    pub(crate) fn why_not(&self, only: Option<u16>, bus: Bus) -> Reason {
        let mut untouched =
            Self { lowest: 0, highest: u32::from(u16::MAX), pair: 0, half_pair: 0, ..self.clone() };
        let choice = match only {
            Some(data) => untouched.choose_exactly(data, bus, |_| false),
            None => untouched.choose(bus, |_| false),
        };
        if choice.is_some() { Reason::Taken } else { Reason::Ports }
    }
}

const fn is_port(port: u32) -> bool {
    port <= u16::MAX as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn choose_all(ranges: &[(u16, u16)], bus: Bus, busy: &[u32]) -> Vec<(u16, Option<u16>)> {
        let mut ports = Ports::new(ranges);
        let mut busy: BTreeSet<u32> = busy.iter().copied().collect();
        let mut chosen = Vec::new();
        while let Some((data, bus)) = ports.choose(bus, |port| busy.contains(&port)) {
            busy.insert(data.into());
            busy.extend(bus.map(u32::from));
            chosen.push((data, bus));
        }
        chosen
    }

    #[test]
    fn the_lowest_free_port_of_any_range_is_chosen() {
        let all = choose_all(&[(40, 41), (10, 12)], Bus::None, &[11]);
        assert_eq!(all, [(10, None), (12, None), (40, None), (41, None)]);
    }

    #[test]
    fn any_bus_port_comes_from_the_other_end() {
        let all = choose_all(&[(10, 12), (20, 22)], Bus::AnyPort, &[]);
        assert_eq!(all, [(10, Some(22)), (11, Some(21)), (12, Some(20))]);
        assert_eq!(choose_all(&[(10, 12)], Bus::AnyPort, &[]), [(10, Some(12))]);
        assert_eq!(choose_all(&[(10, 10)], Bus::AnyPort, &[]), []);
    }

    #[test]
    fn a_fixed_bus_port_must_be_offered_unless_unreserved() {
        let ranges = [(20_000, 20_003), (30_001, 30_002)];
        let pairs = [(20_001, Some(30_001)), (20_002, Some(30_002))];
        assert_eq!(choose_all(&ranges, Bus::Plus10000, &[]), pairs);
        let unreserved = choose_all(&[(20_000, 20_001), (60_000, 60_000)], Bus::Unreserved, &[30_000]);
        assert_eq!(unreserved, [(20_001, Some(30_001))]);
    }

    #[test]
    fn broken_ranges_do_no_harm() {
        assert_eq!(
            choose_all(&[(9, 3), (0, 1), (65_535, 65_535)], Bus::None, &[]),
            [(1, None), (65_535, None)]
        );
        assert_eq!(choose_all(&[(0, 0)], Bus::None, &[]), []);
        assert_eq!(choose_all(&[(10, 13), (11, 12)], Bus::AnyPort, &[]), [(10, Some(13)), (11, Some(12))]);
    }

    #[test]
    fn offered_but_busy_is_another_reason_than_not_offered() {
        let ports = Ports::new(&[(10, 11)]);
        assert_eq!(ports.why_not(None, Bus::AnyPort), Reason::Taken);
        assert_eq!(ports.why_not(None, Bus::Plus10000), Reason::Ports);
        assert_eq!(ports.why_not(Some(12), Bus::None), Reason::Ports);
        assert_eq!(ports.why_not(Some(11), Bus::None), Reason::Taken);
    }
}
