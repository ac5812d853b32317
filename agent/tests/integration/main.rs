//! The real agent with its real shims, over its real socket.

// `cfg(test)` tells the lints that these are tests, helpers included.
#[cfg(test)]
mod bulk;
#[cfg(test)]
mod calls;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod latency;
#[cfg(test)]
mod live;
#[cfg(test)]
mod newer;
#[cfg(test)]
mod node;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod output;
#[cfg(test)]
mod patient;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod random;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod security;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod starts;
#[cfg(test)]
mod survival;
#[cfg(test)]
mod viewer;
#[cfg(test)]
mod viewers;
