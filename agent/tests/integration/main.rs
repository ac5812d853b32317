//! The real agent with its real shims, over its real socket.

// `cfg(test)` tells the lints that these are tests, helpers included.
#[cfg(test)]
mod calls;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod latency;
#[cfg(test)]
mod live;
#[cfg(test)]
mod node;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod security;
#[cfg(test)]
mod shares;
#[cfg(test)]
mod survival;
