//! What can become of an order.

use std::fmt;
use std::str::FromStr;

/// The state of an order, as the database's `order_status` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OrderStatus {
    /// Stock is reserved; nothing or not everything is paid.
    Placed,
    /// Paid in full, not yet sent.
    Paid,
    /// On its way, or with the customer.
    Shipped,
    /// All of it came back.
    Returned,
    /// All of the money went back.
    Refunded,
    /// Given up before it was paid.
    Cancelled,
}

impl OrderStatus {
    /// Each state once, in the order of the database's type.
    pub const ALL: [Self; 6] = [
        Self::Placed,
        Self::Paid,
        Self::Shipped,
        Self::Returned,
        Self::Refunded,
        Self::Cancelled,
    ];

    /// The database's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Paid => "paid",
            Self::Shipped => "shipped",
            Self::Returned => "returned",
            Self::Refunded => "refunded",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether an order may go from this state to `next`.
    pub fn can_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Placed, Self::Paid | Self::Cancelled)
                | (Self::Paid, Self::Shipped | Self::Refunded)
                | (Self::Shipped, Self::Returned | Self::Refunded)
                | (Self::Returned, Self::Refunded)
        )
    }

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        !Self::ALL.into_iter().any(|next| self.can_become(next))
    }
}

impl fmt::Display for OrderStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for OrderStatus {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| UnknownStatus(word.to_owned()))
    }
}

/// A word that is no order's state.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an order status")]
pub struct UnknownStatus(String);
