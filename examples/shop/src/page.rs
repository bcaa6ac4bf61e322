//! Pagination: what a client asks for, what it gets, and how many pages there are.

use serde::Deserialize;

/// Rows on a page when the client names no number.
pub const DEFAULT_PER_PAGE: i64 = 20;

/// Most rows on a page, whatever the client asks for.
pub const MAX_PER_PAGE: i64 = 100;

/// The `page` and `per_page` of a query string.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Page {
    /// Which page, from 1.
    pub page: Option<i64>,
    /// Rows on a page.
    pub per_page: Option<i64>,
}

impl Page {
    /// Which page, from 1; anything below is the first.
    pub fn number(&self) -> i64 {
        self.page.unwrap_or(1).max(1)
    }

    /// Rows on a page, between 1 and [`MAX_PER_PAGE`].
    pub fn limit(&self) -> i64 {
        self.per_page
            .unwrap_or(DEFAULT_PER_PAGE)
            .clamp(1, MAX_PER_PAGE)
    }

    /// Rows before the page.
    pub fn offset(&self) -> i64 {
        (self.number() - 1).saturating_mul(self.limit())
    }

    /// How many pages `total` rows fill.
    pub fn pages(&self, total: i64) -> i64 {
        total.max(0).div_ceil_by(self.limit())
    }
}

/// Integer division that rounds up; the standard library's is not stable for signed numbers.
trait DivCeil {
    fn div_ceil_by(self, divisor: Self) -> Self;
}

impl DivCeil for i64 {
    fn div_ceil_by(self, divisor: Self) -> Self {
        self / divisor + Self::from(self % divisor != 0)
    }
}
