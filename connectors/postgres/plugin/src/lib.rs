//! The PostgreSQL connectors as a plugin library: nothing but the exported symbol.

tributary_sdk::export_plugin!(tributary_connector_postgres::plugin());
