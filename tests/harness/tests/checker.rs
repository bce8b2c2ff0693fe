//! The checker on a real topic: what is injected is found, what was aborted is not there.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tributary_harness::{Checker, KafkaBroker, Lines, Report, Result};

const WAIT: Duration = Duration::from_secs(30);

#[test]
fn injected_faults_are_found_in_a_topic() -> Result<()> {
    let broker = KafkaBroker::shared()?;
    broker.create_topic("faults", 2, &[])?;
    let producer: BaseProducer = broker.client().set("transactional.id", "faults").create()?;
    let lines: Vec<Vec<u8>> = Lines::new(10).iter().collect();
    let send = |partition: i32, numbers: &[usize]| {
        for number in numbers {
            let record = BaseRecord::<(), _>::to("faults").partition(partition).payload(&lines[*number]);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        Ok::<_, tributary_harness::Error>(())
    };
    producer.init_transactions(WAIT)?;
    producer.begin_transaction()?;
    // Even numbers in partition 0, odd ones in 1. Number 4 is lost, 5 comes twice, 2 overtakes 0.
    send(0, &[2, 0, 6, 8])?;
    send(1, &[1, 3, 5, 5, 7, 9])?;
    producer.commit_transaction(WAIT)?;
    producer.begin_transaction()?;
    send(0, &[4])?;
    producer.flush(WAIT)?;
    producer.abort_transaction(WAIT)?;

    let report = Checker::new([&Lines::new(10)]).topic(&broker, "faults")?;
    assert_eq!(
        Report { differences: Vec::new(), ..report.clone() },
        Report {
            expected: 10,
            delivered: 10,
            missing: 1,
            duplicates: 1,
            reordered: 1,
            rewinds: 2,
            ..Report::default()
        }
    );
    assert_eq!(report.differences.len(), 2, "{report}");
    Ok(())
}
