//! Log lines: one event, one line, whatever is in it. Line ends and other control characters are escaped, so that nobody who
//! can put text into a record or a name can forge a line.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
pub(super) enum Format {
    /// `2026-11-23T15:40:49.123Z INFO  herder: created the connector connector=x`
    Text { colours: bool },
    /// An object a line.
    Json,
}

/// Fields of spans, kept as text.
pub(super) struct PlainFields;

/// An event's message and fields.
#[derive(Default)]
struct Parts {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}

impl Parts {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl<'writer> FormatFields<'writer> for PlainFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut parts = Parts::default();
        fields.record(&mut parts);
        for (name, value) in &parts.fields {
            write!(writer, " {name}=")?;
            escape(&mut writer, value)?;
        }
        Ok(())
    }
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        match self {
            Self::Text { colours } => {
                let (on, off) = if *colours { (colour(level), "\x1b[0m") } else { ("", "") };
                let target = target.strip_prefix("tributary::").unwrap_or(target);
                write!(line, "{time} {on}{level:<5}{off} {target}: ")?;
                escape(&mut line, &parts.message)?;
                for (name, value) in &parts.fields {
                    write!(line, " {name}=")?;
                    escape(&mut line, value)?;
                }
                writeln!(line)
            }
            Self::Json => {
                let mut object = serde_json::Map::new();
                object.insert("timestamp".into(), time.into());
                object.insert("level".into(), level.as_str().into());
                object.insert("logger".into(), target.into());
                object.insert("message".into(), parts.message.into());
                for (name, value) in parts.fields {
                    object.insert(name.into(), value.into());
                }
                writeln!(line, "{}", serde_json::Value::Object(object))
            }
        }
    }
}

fn colour(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[90m",
    }
}

/// `text` without control characters.
fn escape(line: &mut Writer<'_>, text: &str) -> fmt::Result {
    for c in text.chars() {
        match c {
            '\n' => line.write_str("\\n")?,
            '\r' => line.write_str("\\r")?,
            '\t' => line.write_str("\\t")?,
            // The two separators end a line for some readers.
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => write!(line, "\\u{{{:x}}}", u32::from(c))?,
            c => line.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(format: Format) -> String {
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer().event_format(format).fmt_fields(PlainFields);
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(lines.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(connector = "a\n2026-01-01 ERROR forged", task = 3, "two\r\nlines \x1b[31m{}", "ü");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn an_event_is_a_line() {
        let text = logged(Format::Text { colours: false });
        assert_eq!(text.lines().count(), 1, "{text}");
        let expected =
            "telemetry::format::tests: two\\r\\nlines \\u{1b}[31mü connector=a\\n2026-01-01 ERROR forged task=3\n";
        assert!(text.ends_with(expected) && text.contains(" INFO  "), "{text}");

        let json = logged(Format::Json);
        assert_eq!(json.lines().count(), 1, "{json}");
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(object["message"], "two\r\nlines \u{1b}[31mü");
        assert_eq!((&object["level"], &object["task"]), (&"INFO".into(), &"3".into()));
    }
}
