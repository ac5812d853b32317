//! Whose size a shared terminal has: that of the driver who typed last.
//!
//! Used by `presence`, which carries it out. Until somebody types it is the first driver's; another
//! driver's size is remembered until they type; when the one who decides leaves, the next in the
//! order of [`Sizes::drivers`] does. An order from outside (`POST …/resize`) holds until then.
//! Invariants: a size is handed out only when the terminal has another one.

use hpcclient_protocol::run::TerminalSize;

/// The sizes of one terminal's drivers.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Who told a size; the last one decides.
    drivers: Vec<(u64, TerminalSize)>,
    /// What the terminal has, once it is known.
    set: Option<TerminalSize>,
}

impl Sizes {
    /// A driver has a window of this size.
    pub(super) fn told(&mut self, driver: u64, size: TerminalSize) {
        if let Some((_, known)) = self.drivers.iter_mut().find(|(who, _)| *who == driver) {
            *known = size;
        } else {
            // Next to the one who decides.
            let place = self.drivers.len().saturating_sub(1);
            self.drivers.insert(place, (driver, size));
        }
    }

    /// A driver typed. One whose size is unknown decides nothing.
    pub(super) fn typed(&mut self, driver: u64) {
        if let Some(place) = self.drivers.iter().position(|(who, _)| *who == driver) {
            let own = self.drivers.remove(place);
            self.drivers.push(own);
        }
    }

    /// A driver left.
    pub(super) fn left(&mut self, driver: u64) {
        self.drivers.retain(|(who, _)| *who != driver);
    }

    /// Returns the size that the terminal should get now.
    pub(super) fn due(&self) -> Option<TerminalSize> {
        let (_, size) = self.drivers.last()?;
        (self.set != Some(*size)).then_some(*size)
    }

    /// The terminal has this size.
    pub(super) const fn set(&mut self, size: TerminalSize) {
        self.set = Some(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn size(cols: u16) -> TerminalSize {
        TerminalSize { cols, rows: 24 }
    }

    /// Carries out what is due and returns it.
    fn next(sizes: &mut Sizes) -> Option<u16> {
        let due = sizes.due()?;
        sizes.set(due);
        assert_eq!(sizes.due(), None, "nothing is due twice");
        Some(due.cols)
    }

    #[test]
    fn who_typed_last_decides_and_the_next_one_follows_when_they_leave() {
        let mut sizes = Sizes::default();
        sizes.typed(1);
        assert_eq!(next(&mut sizes), None, "nobody told a size");
        sizes.told(1, size(80));
        assert_eq!(next(&mut sizes), Some(80), "the first driver's");
        sizes.told(2, size(120));
        sizes.told(3, size(100));
        assert_eq!(next(&mut sizes), None, "others' are remembered");
        sizes.told(1, size(90));
        assert_eq!(next(&mut sizes), Some(90), "the first one's window changed");
        sizes.typed(2);
        assert_eq!(next(&mut sizes), Some(120));
        sizes.told(1, size(70));
        assert_eq!(next(&mut sizes), None);
        sizes.left(2);
        assert_eq!(next(&mut sizes), Some(70), "the one who typed before");
        sizes.left(1);
        assert_eq!(next(&mut sizes), Some(100));
        sizes.left(3);
        assert_eq!(next(&mut sizes), None, "it keeps what it had");
    }

    #[test]
    fn an_order_from_outside_holds_until_a_driver_with_another_size_types() {
        let mut sizes = Sizes::default();
        sizes.told(1, size(80));
        assert_eq!(next(&mut sizes), Some(80));
        sizes.set(size(132));
        sizes.typed(1);
        assert_eq!(next(&mut sizes), Some(80));
    }
}
