//! Real shims with real commands, driven over their control sockets as the agent does it.

#[cfg(test)]
mod alone;
#[cfg(test)]
mod console;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod driver;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod session;
