"""What people do with Kafka Connect from Python, with clients of theirs, unmodified. The URL and a directory are arguments."""

import json
import sys
import time

url, directory = sys.argv[1:3]
host, port = url.removeprefix("http://").split(":")
source = {"connector.class": "FileStreamSource", "file": f"{directory}/in", "topic": "from-python", "tasks.max": "1"}


def until(what, probe):
    deadline = time.monotonic() + 60
    while not probe():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.05)


def kafka_connect_py():
    from kafka_connect import KafkaConnect

    client = KafkaConnect(url=url)
    assert client.get_cluster_info()["version"].startswith("4.3.1")
    assert client.list_connectors() == []
    created = client.create_connector({"name": "py", "config": source})
    assert created["name"] == "py" and created["type"] == "source", created
    until("RUNNING", lambda: client.get_connector_status("py")["tasks"][:1] and client.get_connector_status("py")["tasks"][0]["state"] == "RUNNING")
    assert client.get_connector_config("py")["topic"] == "from-python"
    assert list(client.list_connectors(expand="status", state="running")) == ["py"]
    assert list(client.list_connectors(pattern="p.*")) == ["py"]
    client.pause_connector("py")
    until("PAUSED", lambda: client.get_connector_status("py")["connector"]["state"] == "PAUSED")
    client.resume_connector("py")
    until("RUNNING", lambda: client.get_connector_status("py")["connector"]["state"] == "RUNNING")
    client.restart_connector("py", include_tasks=True, only_failed=True)
    updated = client.update_connector("py", dict(source, **{"batch.size": "10"}))
    assert updated["config"]["batch.size"] == "10", updated
    client.stop_connector("py")
    until("STOPPED", lambda: client.get_connector_status("py")["connector"]["state"] == "STOPPED")
    client.delete_connector("py")
    assert client.list_connectors() == []


def kafka_connect_api():
    from kafka_connect_api.errors import GenericNotFound
    from kafka_connect_api.kafka_connect_api import Api, Cluster, Connector

    # The client itself does not expect that a connector may be absent.
    def exists(connector):
        try:
            return connector.exists()
        except GenericNotFound:
            return False

    cluster = Cluster(Api(host, int(port)))
    assert cluster.version.startswith("4.3.1") and cluster.kafka_cluster
    connector = Connector(cluster, "api")
    assert not exists(connector)
    connector.config = source
    assert exists(connector) and connector.config["file"] == source["file"]
    until("a task", lambda: len(connector.tasks) == 1)
    until("RUNNING", lambda: connector.tasks[0].is_running())
    connector.cycle_connector()
    until("RUNNING", lambda: connector.state == "RUNNING" and connector.tasks[0].is_running())
    connector.restart_all_tasks()
    until("RUNNING", lambda: connector.tasks[0].is_running())
    assert list(cluster.connectors) == ["api"]
    cluster.root_logger = "WARN"
    assert cluster.root_logger["level"] == "WARN"
    connector.delete()
    until("its end", lambda: not exists(connector))


def kafkaconnect():
    from kafkaconnect.connect import Connect

    client = Connect(url)
    config = json.dumps(source)
    problems = json.loads(client.validate("FileStreamSource", json.dumps(dict(source, name="kc", **{"tasks.max": "many"}))))
    assert problems["error_count"] == 2, problems
    client.create_or_update("kc", config)
    until("RUNNING", lambda: [t["state"] for t in json.loads(client.status("kc"))["tasks"]] == ["RUNNING"])
    until("its topic", lambda: json.loads(client.topics("kc")) == {"kc": {"topics": ["from-python"]}})
    assert json.loads(client.list()) == ["kc"]
    assert json.loads(client.tasks("kc"))[0]["config"]["task.class"].endswith("FileStreamSourceTask")
    assert any(plugin["class"].endswith("FileStreamSourceConnector") for plugin in json.loads(client.plugins()))
    client.pause("kc")
    client.resume("kc")
    client.restart("kc")
    client.remove("kc")


def kafka_connect_healthcheck():
    from kafka_connect_healthcheck.health import Health
    import requests

    worker = f"{host}:{port}"
    health = lambda: Health(url, worker, ["FAILED"], "", 0, ["CONNECTOR", "TASK"]).get_health_result()
    assert health()["healthy"], health()
    requests.put(f"{url}/connectors/fine/config", json=source).raise_for_status()
    until("RUNNING", lambda: requests.get(f"{url}/connectors/fine/status").json()["tasks"])
    result = health()
    assert result["healthy"] and result["failures"] == [], result
    requests.delete(f"{url}/connectors/fine").raise_for_status()


for workflow in [kafka_connect_py, kafka_connect_api, kafkaconnect, kafka_connect_healthcheck]:
    workflow()
    print(workflow.__name__, "is content")
