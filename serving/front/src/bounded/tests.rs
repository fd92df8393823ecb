use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use super::*;

fn context() -> SessionContext {
    let context = SessionContext::new();
    let mut state = context.state();
    bound_functions(&mut state).unwrap();
    SessionContext::new_with_state(state)
}

async fn answer(context: &SessionContext, sql: &str) -> Result<String> {
    let batches = context.sql(sql).await?.collect().await?;
    Ok(pretty_format_batches(&batches)?.to_string())
}

#[tokio::test]
async fn what_is_modest_is_computed_as_ever() {
    let (bounded, plain) = (context(), SessionContext::new());
    for sql in [
        "SELECT repeat('ab', 3), repeat('ab', -1), repeat(NULL, 9), repeat('x', NULL), repeat('', 9223372036854775807)",
        "SELECT repeat(x, n) FROM (VALUES ('a', 3), (NULL, 4), ('🦀', 2)) t(x, n)",
        "SELECT lpad('x', 5), rpad('x', 5, 'äö'), lpad('long', 2), rpad('x', -1)",
        "SELECT replace('banana', 'an', '--'), replace('ab', '', '-'), regexp_replace('banana', 'a(n)', '\\1\\1', 'g')",
        "SELECT range(5), range(1, 4), range(4, 1, -1), range(1, 4, -1), generate_series(1, 10, 3)",
        "SELECT range(DATE '2026-01-01', DATE '2026-04-01', INTERVAL '1 month')",
        "SELECT generate_series(TIMESTAMP '2026-01-02', TIMESTAMP '2026-01-01', INTERVAL '-6 hours')",
        "SELECT array_repeat('x', 3), list_repeat([1, 2], 2), array_repeat(NULL, 2), array_resize([1], 3), array_resize([1, 2], 3, 7)",
        "SELECT array_replace_all([1, 2, 1], 1, 9), array_replace_n([1, 1, 1], 1, 9, 2), array_to_string([1, NULL, 3], ', ', '-')",
        "SELECT levenshtein('kitten', 'sitting'), levenshtein(NULL, 'x')",
        "SELECT lpad(x, 8, '.') FROM (SELECT CAST(value AS TEXT) AS x FROM generate_series(1, 100000)) ORDER BY 1 LIMIT 3",
    ] {
        assert_eq!(
            answer(&bounded, sql).await.unwrap(),
            answer(&plain, sql).await.unwrap(),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn what_would_fill_the_memory_is_refused_before_it_is_begun() {
    let context = context();
    for sql in [
        "repeat('x', 2000000000)",
        "repeat('x', 9223372036854775807)",
        "repeat(repeat('x', 100000), 100000)",
        "repeat(x, 10000000)",
        "repeat('x', n)",
        "lpad('x', 2000000000)",
        "rpad(x, 20000000, 'ab')",
        "replace(repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "regexp_replace(repeat('x', 1000000), 'x', repeat('y', 1000000), 'g')",
        "regexp_replace(repeat('x', 1000000), 'x*', repeat('\\0', 1000000))",
        "range(100000000)",
        "range(-9223372036854775807, 9223372036854775807)",
        "range(1, 9223372036854775807, 1000)",
        "generate_series(9223372036854775807, 1, -7)",
        "range(TIMESTAMP '1970-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 microsecond')",
        "generate_series(DATE '1970-01-01', DATE '9999-01-01', INTERVAL '1 month -29 days')",
        "array_repeat(1, 10000000000)",
        "array_repeat(n, n)",
        "array_repeat(range(1000000), 1000000)",
        "array_resize([1], 10000000000)",
        "array_resize(['x'], 1000000, repeat('x', 1000000))",
        "array_replace_all(array_repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "array_to_string(range(1000000), repeat('y', 1000000))",
        "levenshtein(repeat('x', 100000), repeat('y', 100000))",
    ] {
        let sql = format!("SELECT {sql} AS made FROM (VALUES ('abc', 20000000), ('def', 20000001)) t(x, n)");
        // What was made is not printed: it is large.
        let Err(error) = answer(&context, &sql).await else {
            panic!("{sql} is not refused");
        };
        assert!(
            matches!(error.find_root(), datafusion::error::DataFusionError::Plan(message) if message.contains("one call may take")),
            "{sql}: {error}"
        );
    }
}
