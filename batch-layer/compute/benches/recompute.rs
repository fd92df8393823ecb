//! Batch recompute against one plain DataFusion query over the same Parquet file, each on one core.
//!
//! `cargo bench -p anabranch-compute`. Both read the file from disk (the page cache), decode only what the query needs, and end
//! with the answer; the kernel also sorts it and keeps the partial state beside it. What is measured is CPU time. `ANABRANCH_BENCH_ROWS` sets the number
//! of rows (default 4,000,000).

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use anabranch_catalog::Catalog;
use anabranch_compute::{Control, FileBytes, InputFile, Kernel, Options, Plan, projected_ranges};
use anabranch_view::View;
use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema};
use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::properties::WriterProperties;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

const TABLE: &str = "CREATE TABLE clicks (t TIMESTAMP, page TEXT, visitor BIGINT, device BIGINT, n BIGINT, price DOUBLE) \
     WITH (connector = 'log', topic = 'clicks', format = 'json', event_time = 't');";

/// Name, SELECT of the view, and the same for DataFusion.
const QUERIES: [(&str, &str, &str); 5] = [
    (
        "page_minute_count_sum",
        "SELECT page, tumble(t, INTERVAL '1 minute') AS minute, count(*) AS clicks, sum(n) AS total FROM clicks GROUP BY page, minute",
        "SELECT page, date_bin(INTERVAL '1 minute', t) AS minute, count(*) AS clicks, sum(n) AS total FROM clicks GROUP BY page, minute",
    ),
    (
        "page_stats",
        "SELECT page, count(*) AS clicks, avg(price) AS mean, min(price) AS least, max(price) AS most FROM clicks GROUP BY page",
        "SELECT page, count(*) AS clicks, avg(price) AS mean, min(price) AS least, max(price) AS most FROM clicks GROUP BY page",
    ),
    (
        "visitor_count_sum",
        "SELECT visitor, count(*) AS clicks, sum(price) AS spent FROM clicks GROUP BY visitor",
        "SELECT visitor, count(*) AS clicks, sum(price) AS spent FROM clicks GROUP BY visitor",
    ),
    (
        "device_count_sum",
        "SELECT device, count(*) AS clicks, sum(price) AS spent FROM clicks GROUP BY device",
        "SELECT device, count(*) AS clicks, sum(price) AS spent FROM clicks GROUP BY device",
    ),
    (
        "filtered_global",
        "SELECT count(*) AS clicks, sum(n) AS total, max(price) AS most FROM clicks WHERE n > 500",
        "SELECT count(*) AS clicks, sum(n) AS total, max(price) AS most FROM clicks WHERE n > 500",
    ),
];

fn rows() -> usize {
    std::env::var("ANABRANCH_BENCH_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(4_000_000)
}

/// Clicks in time order over one hour: 2,000 pages, of which few are popular, and 200,000 visitors, numbered one after another, with a device
/// each, whose numbers lie far apart.
fn generate(path: &Path, rows: usize) {
    let schema = Catalog::parse(TABLE).expect("the table is right").sources["clicks"].declared_schema();
    let fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .build();
    let file = File::create(path).expect("the temporary folder is writable");
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).expect("plain types");
    let mut random = StdRng::seed_from_u64(7);
    let batch_rows = 100_000;
    for start in (0..rows).step_by(batch_rows) {
        let range = start..rows.min(start + batch_rows);
        let micros = |row: usize| 1_700_000_000_000_000 + (row as i64) * 3_600_000_000 / rows as i64;
        let page = |random: &mut StdRng| {
            let skewed: f64 = random.random_range(0.0..1.0f64).powi(3);
            format!("/shop/category/{:04}", (skewed * 2000.0) as u32)
        };
        let pages: Vec<String> = range.clone().map(|_| page(&mut random)).collect();
        let visitors: Vec<i64> = range.clone().map(|_| random.random_range(0..200_000)).collect();
        let device = |visitor: &i64| visitor.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed());
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(TimestampMicrosecondArray::from_iter_values(range.clone().map(micros)).with_timezone("UTC")),
                Arc::new(StringArray::from(pages)),
                Arc::new(Int64Array::from_iter_values(visitors.iter().copied())),
                Arc::new(Int64Array::from_iter_values(visitors.iter().map(device))),
                Arc::new(Int64Array::from_iter_values(
                    range.clone().map(|_| random.random_range(0..1000)),
                )),
                Arc::new(arrow::array::Float64Array::from_iter_values(
                    range
                        .clone()
                        .map(|_| f64::from(random.random_range(0..100_000)) / 100.0),
                )),
            ],
        )
        .expect("columns of the schema");
        writer.write(&batch).expect("the disk has room");
    }
    writer.close().expect("the disk has room");
}

fn views(names: &[&str]) -> Vec<View> {
    let mut sql = TABLE.to_owned();
    for (name, select, _) in QUERIES {
        sql.push_str(&format!("CREATE MATERIALIZED VIEW {name} AS {select};"));
    }
    let catalog = Catalog::parse(&sql).expect("the views are right");
    names
        .iter()
        .map(|name| View::compile(&catalog.views[*name]).expect("the views are supported"))
        .collect()
}

/// Reads the footer and the columns that the plan wants, as the engine's fetcher does.
fn fetch(plan: &Plan, path: &Path) -> InputFile {
    let file = File::open(path).expect("the file was generated");
    let len = file.metadata().expect("it is a file").len();
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .expect("it is Parquet");
    let read = |range: Range<u64>| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start)
            .expect("the range is in the file");
        (range.start, bytes.into())
    };
    let ranges = projected_ranges(&metadata, plan.columns()).expect("the footer is right");
    let bytes = FileBytes::sparse(len, ranges.into_iter().map(read).collect());
    InputFile {
        path: "clicks".to_owned(),
        bytes,
        metadata: Some(Arc::new(metadata)),
        selection: None,
        guard: None,
    }
}

/// Folds the file and drains the sorted result; returns the number of groups.
fn recompute(kernel: &Kernel, plan: &Plan, path: &Path) -> u64 {
    let results = kernel
        .fold(plan, [Ok(fetch(plan, path))], &Control::new())
        .expect("it folds");
    let mut groups = 0;
    for state in results {
        for batch in state.batches().expect("it merges") {
            groups += batch.expect("it finalises").num_rows() as u64;
        }
    }
    groups
}

fn plain_query(runtime: &tokio::runtime::Runtime, context: &SessionContext, sql: &str) -> u64 {
    let batches = runtime
        .block_on(async { context.sql(sql).await?.collect().await })
        .expect("it runs");
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

/// CPU time of all threads of this process: what "per core" means, and steady on a machine that does other things too.
struct CpuTime;

impl CpuTime {
    fn now() -> Duration {
        // What a thread had used when it was last seen: it still counts when the thread has ended.
        static USED_NANOS: LazyLock<Mutex<HashMap<OsString, u64>>> = LazyLock::new(Mutex::default);
        let mut used = USED_NANOS.lock().expect("no reading panics");
        let threads = std::fs::read_dir("/proc/self/task").expect("Linux keeps books on threads");
        for thread in threads.flatten() {
            let stat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            if let Some(Ok(nanos)) = stat.split(' ').next().map(str::parse) {
                used.insert(thread.file_name(), nanos);
            }
        }
        Duration::from_nanos(used.values().sum())
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now().saturating_sub(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn benchmarks(criterion: &mut Criterion<CpuTime>) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("clicks.parquet");
    let rows = rows();
    generate(&path, rows);

    let kernel = Kernel::new(&Options {
        threads: 1,
        ..Options::default()
    })
    .expect("one thread and a temporary folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let table = path.to_str().expect("a temporary folder's name is text");
    runtime
        .block_on(context.register_parquet("clicks", table, ParquetReadOptions::default()))
        .expect("the file is Parquet");

    let mut group = criterion.benchmark_group("recompute");
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .measurement_time(Duration::from_secs(5))
        .throughput(Throughput::Elements(rows as u64));
    for (name, _, sql) in QUERIES {
        let plan = Plan::new(views(&[name]), rows as u64).expect("one source");
        assert_eq!(
            recompute(&kernel, &plan, &path),
            plain_query(&runtime, &context, sql),
            "{name}: groups"
        );
        group.bench_function(format!("{name}/datafusion"), |b| {
            b.iter(|| plain_query(&runtime, &context, sql))
        });
        group.bench_function(format!("{name}/anabranch"), |b| {
            b.iter(|| recompute(&kernel, &plan, &path))
        });
    }
    let all = QUERIES.map(|(name, ..)| name);
    let plan = Plan::new(views(&all), rows as u64).expect("one source");
    group.bench_function("all_in_one_pass/anabranch", |b| {
        b.iter(|| recompute(&kernel, &plan, &path))
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = benchmarks
}
criterion_main!(benches);
