//! `tumble` and `hop`: the start of the window, or windows, that an event belongs to.
//!
//! Windows are half-open, `[start, start + size)`, and aligned to the epoch plus an offset; division rounds down, so that
//! they are right before 1970 too.

mod functions;

pub(crate) use functions::{HOP, TUMBLE, Windows, hop, tumble};

#[cfg(test)]
mod tests;

/// One window per `size` microseconds, or several that overlap: a new one starts every `slide`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grid {
    /// Microseconds between the starts of two windows; positive.
    pub slide_us: i64,
    /// Microseconds a window lasts; positive. Equal to `slide_us` for `tumble`.
    pub size_us: i64,
    /// In `0..slide_us`.
    pub offset_us: i64,
}

impl Grid {
    /// `offset_us` may be any number; only its remainder counts.
    pub(crate) fn new(slide_us: i64, size_us: i64, offset_us: i64) -> Self {
        debug_assert!(slide_us > 0 && size_us > 0, "sizes are checked when a view is compiled");
        Self {
            slide_us,
            size_us,
            offset_us: offset_us.rem_euclid(slide_us),
        }
    }

    /// Start of the last window that begins at or before `at`; `None` if that lies before the first microsecond there is.
    pub(crate) fn last_start(&self, at: i64) -> Option<i64> {
        // `offset` lies in 0..slide, so the sum below may only overflow where the plain difference does not.
        let into = (at.rem_euclid(self.slide_us) - self.offset_us).rem_euclid(self.slide_us);
        at.checked_sub(into)
    }

    /// Starts of all windows that contain `at`, the earliest first.
    pub(crate) fn starts(&self, at: i64) -> impl Iterator<Item = i64> {
        let last = self.last_start(at);
        let (slide, size) = (self.slide_us, self.size_us);
        let count = last.map_or(0, |last| {
            let behind = at - last;
            if behind >= size {
                0
            } else {
                (size - behind - 1) / slide + 1
            }
        });
        (0..count)
            .rev()
            .filter_map(move |back| last?.checked_sub(back.checked_mul(slide)?))
    }

    /// Most windows one event can belong to.
    pub(crate) fn most_windows(&self) -> i64 {
        (self.size_us - 1) / self.slide_us + 1
    }
}
