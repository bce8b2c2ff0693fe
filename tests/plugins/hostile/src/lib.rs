//! Misbehaves on demand: `panic.in=<call>` panics there, `hang.in=<call>` stays there, `panic.with` says how.

use std::time::Duration;

use tributary_sdk::arrow::array::StringArray;
use tributary_sdk::sink::{Failures, TopicPartition, TopicPartitionOffset};
use tributary_sdk::source::SourcePosition;
use tributary_sdk::*;

/// A payload that is no text and panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload went off");
    }
}

#[derive(Default)]
struct Mood(Config);

impl Mood {
    /// What the config asks for in this call.
    fn show(&self, call: &str) {
        if self.0.get("panic.in") == Some(call) {
            match self.0.get("panic.with") {
                Some("number") => std::panic::panic_any(5),
                Some("bomb") => std::panic::panic_any(Bomb),
                Some("overflow") => {
                    let empty: Vec<u8> = Vec::new();
                    std::hint::black_box(empty[std::hint::black_box(7)]);
                }
                _ => panic!("boom in {call}"),
            }
        }
        if self.0.get("hang.in") == Some(call) {
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}

macro_rules! connector {
    ($trait:ident, $name:ident, $task:ident) => {
        #[derive(Default)]
        struct $name(Mood);

        impl $trait for $name {
            type Task = $task;

            fn config_def() -> ConfigDef {
                ConfigDef::new()
            }

            fn validate(&mut self, config: &Config) -> Vec<(String, String)> {
                Mood(config.clone()).show("validate");
                Vec::new()
            }

            fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
                self.0 = Mood(config.clone());
                if config.get("late").is_some() {
                    // A thread that outlives its instance, and goes on calling the worker.
                    let context = context.clone();
                    std::thread::spawn(move || {
                        while !context.cancelled() {
                            context.count("alive", 1.0);
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        for _ in 0..100 {
                            context.info("still here");
                            let _ = context.offsets(&[]);
                            let _ = context.wait(Duration::from_secs(3600));
                        }
                    });
                }
                self.0.show("start");
                Ok(())
            }

            fn task_configs(&mut self, _: usize) -> Result<Vec<Config>> {
                self.0.show("task_configs");
                Ok(vec![Config::default()])
            }

            fn stop(&mut self) -> Result<()> {
                self.0.show("stop");
                Ok(())
            }
        }
    };
}

connector!(SourceConnector, Source, HostileSource);
connector!(SinkConnector, Sink, HostileSink);

#[derive(Default)]
struct HostileSource(Mood);

impl SourceTask for HostileSource {
    fn start(&mut self, context: &Context, config: &Config) -> Result<()> {
        self.0 = Mood(config.clone());
        self.0.show("start");
        if config.get("scan").is_some() {
            context.state("shard").scan(b"", |_, _| panic!("boom in scan"))?;
        }
        Ok(())
    }

    fn poll(&mut self, output: &mut Output<'_>) -> Result<()> {
        output.emit(Batch::new("t", Column::text(StringArray::from(vec!["before"]))))?;
        self.0.show("poll");
        Ok(())
    }

    fn commit(&mut self, _: &[SourcePosition]) -> Result<()> {
        self.0.show("commit");
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.0.show("stop");
        Ok(())
    }

    fn canceller(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let mood = Mood(self.0.0.clone());
        Some(Box::new(move || mood.show("cancel")))
    }
}

impl Drop for HostileSource {
    fn drop(&mut self) {
        self.0.show("drop");
    }
}

#[derive(Default)]
struct HostileSink(Mood);

impl SinkTask for HostileSink {
    fn start(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = Mood(config.clone());
        self.0.show("start");
        Ok(())
    }

    fn open(&mut self, _: &[TopicPartitionOffset]) -> Result<Vec<TopicPartitionOffset>> {
        self.0.show("open");
        Ok(Vec::new())
    }

    fn put(&mut self, _: Batch, failures: &mut Failures) -> Result<()> {
        self.0.show("put");
        if self.0.0.get("fail.row").is_some() {
            failures.fail(self.0.0.parsed("fail.row", 0)?, "no such row");
        }
        Ok(())
    }

    fn flush(&mut self, _: &[TopicPartitionOffset]) -> Result<()> {
        self.0.show("flush");
        Ok(())
    }

    fn close(&mut self, _: &[TopicPartition]) -> Result<()> {
        self.0.show("close");
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        self.0.show("stop");
        Ok(())
    }
}

#[derive(Default)]
struct HostileTransform(Mood);

impl Transform for HostileTransform {
    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, _: &Context, config: &Config) -> Result<()> {
        self.0 = Mood(config.clone());
        self.0.show("configure");
        Ok(())
    }

    fn apply(&mut self, batch: Batch, output: &mut Output<'_>, _: &mut Failures) -> Result<()> {
        self.0.show("apply");
        output.emit(batch)
    }

    fn on_watermark(&mut self, _: i64, _: &mut Output<'_>) -> Result<()> {
        self.0.show("on_watermark");
        Ok(())
    }
}

/// Cannot even be made.
struct Stillborn;

impl Default for Stillborn {
    fn default() -> Self {
        panic!("boom in create");
    }
}

impl Transform for Stillborn {
    fn config_def() -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, _: &Context, _: &Config) -> Result<()> {
        Ok(())
    }

    fn apply(&mut self, _: Batch, _: &mut Output<'_>, _: &mut Failures) -> Result<()> {
        Ok(())
    }
}

export_plugin!(
    Plugin::new("hostile", "0.1.0")
        .source::<Source>("com.example.HostileSource")
        .sink::<Sink>("com.example.HostileSink")
        .transform::<HostileTransform>("com.example.HostileTransform")
        .transform::<Stillborn>("com.example.Stillborn")
);
