use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;

use crate::Error;

/// When runs start by themselves: a cron expression in a time zone.
///
/// Five fields (minute first) or six (second first). Where clocks go forward, a fixed time inside the gap fires at the first
/// moment after it; where they go back, a fixed time in the repeated hour fires once. Patterns with wildcards or steps follow
/// the wall clock through both.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
    expression: String,
}

impl Schedule {
    /// Parses `[batch] schedule` and `[batch] time_zone`.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the key and what it should look like.
    pub fn parse(expression: &str, time_zone: &str) -> Result<Self, Error> {
        let cron = Cron::from_str(expression).map_err(|error| Error::Setting {
            key: "batch.schedule",
            message: format!(
                "`{expression}` is not a cron expression: {error}; `*/15 * * * *` is every quarter of an hour"
            ),
        })?;
        let zone = Tz::from_str(time_zone).map_err(|_| Error::Setting {
            key: "batch.time_zone",
            message: format!("`{time_zone}` is not an IANA time zone; write one like `Europe/Berlin` or `UTC`"),
        })?;
        Ok(Self {
            cron,
            zone,
            expression: expression.to_owned(),
        })
    }

    /// The first moment after `after` (exclusive); `None` when the pattern never matches again.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&self.zone);
        self.cron
            .find_next_occurrence(&local, false)
            .ok()
            .map(|next| next.with_timezone(&Utc))
    }

    /// The expression as written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// IANA name of the time zone.
    pub fn time_zone(&self) -> &'static str {
        self.zone.name()
    }
}

#[cfg(test)]
mod tests;
