//! The process itself, by the names that Prometheus' own libraries have for it. Read from the kernel at each scrape.
//!
//! What cannot be read is left out.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::fs;

/// This process.
#[derive(Debug)]
pub struct Process;

/// What the kernel says of it; proc(5) has the fields.
#[derive(Debug, Default, PartialEq)]
struct Read {
    cpu_seconds: Option<f64>,
    start_time: Option<f64>,
    virtual_bytes: Option<f64>,
    resident_bytes: Option<f64>,
    open_files: Option<f64>,
    most_files: Option<f64>,
}

impl Read {
    fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "a clock tick and a page are far below 2^53")]
        let (tick, page) = (1.0 / clock_ticks_per_second() as f64, page_size() as f64);
        let of_process = Self::of(&read("/proc/self/stat"), &read("/proc/stat"), (tick, page));
        // One is the folder that is being read.
        let open_files =
            fs::read_dir("/proc/self/fd").ok().and_then(|files| u32::try_from(files.count()).ok());
        #[expect(clippy::cast_precision_loss, reason = "a limit of files is far below 2^53")]
        let most_files = getrlimit(Resource::Nofile).current.map(|most| most as f64);
        let used = clock_gettime(ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "2^53 seconds are long")]
        let cpu_seconds = Some(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
        Self {
            cpu_seconds,
            open_files: open_files.map(|files| f64::from(files.saturating_sub(1))),
            most_files,
            ..of_process
        }
    }

    /// From the process's `stat` and the machine's.
    fn of(stat: &str, machine: &str, (tick, page): (f64, f64)) -> Self {
        // The second field is the program's name, which may have spaces and brackets.
        let after_name: Vec<&str> =
            stat.rsplit_once(')').map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
        // By proc(5)'s numbers, the first of which here is 3.
        let field = |number: usize| after_name.get(number - 3)?.parse::<f64>().ok();
        let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Self {
            start_time: field(22).zip(boot).map(|(start, boot)| boot + start * tick),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * page),
            ..Self::default()
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = Read::now();
        if let Some(seconds) = now.cpu_seconds {
            let help = "Seconds of processors that the process has used";
            let to = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(to)?;
        }
        let gauges = [
            ("process_start_time_seconds", "When the process started", now.start_time),
            ("process_virtual_memory_bytes", "Memory that the process has asked for", now.virtual_bytes),
            ("process_resident_memory_bytes", "Memory that the process has", now.resident_bytes),
            ("process_open_fds", "Files that the process has open", now.open_files),
            ("process_max_fds", "Files that the process may have open", now.most_files),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let to = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(to)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 0 10 0 0 0 150 50 0 0 20 0 5 0 300 4096 3 18446744073709551615";
        let read = Read::of(stat, "cpu 1 2\nbtime 1000\n", (0.01, 4096.0));
        assert_eq!(read.start_time, Some(1003.0));
        assert_eq!((read.virtual_bytes, read.resident_bytes), (Some(4096.0), Some(12288.0)));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(Read::of("", "", (0.01, 4096.0)), Read::default());
    }
}
