use std::fmt;
use std::str::FromStr;

/// Where one is in a trace: what goes from service to service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace_id: u128,
    pub span_id: u64,
    /// Whether the trace is recorded; decided where it began.
    pub sampled: bool,
}

impl fmt::Display for SpanContext {
    /// The value of a `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{:032x}-{:016x}-{flags:02x}", self.trace_id, self.span_id)
    }
}

impl FromStr for SpanContext {
    type Err = ();

    /// Reads a `traceparent` header. Versions to come may add fields; version `ff` and ids of zeros are not valid.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.trim().split('-');
        let mut next = |digits: usize| {
            let part = parts.next().ok_or(())?;
            let lower = part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            (part.len() == digits && lower).then_some(part).ok_or(())
        };
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let more = parts.next().is_some();
        if version == "ff" || (version == "00" && more) {
            return Err(());
        }
        let context = Self {
            trace_id: u128::from_str_radix(trace, 16).map_err(|_| ())?,
            span_id: u64::from_str_radix(span, 16).map_err(|_| ())?,
            sampled: u8::from_str_radix(flags, 16).map_err(|_| ())? & 1 == 1,
        };
        if context.trace_id == 0 || context.span_id == 0 {
            return Err(());
        }
        Ok(context)
    }
}

#[cfg(test)]
mod tests;
