//! The shapes of a validation's answer.

use serde::Serialize;
use tributary_sdk::config_def::{ConfigKey, DefaultValue, Importance, Type, Width};
use utoipa::ToSchema;

/// A whole config checked.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigInfos {
    /// The class as the config names it.
    pub name: String,
    /// Errors of all keys.
    pub error_count: usize,
    /// The headings of a user interface.
    pub groups: Vec<String>,
    /// Every key.
    pub configs: Vec<ConfigInfo>,
    /// What is odd without being wrong; left out where nothing is. Kafka Connect has no such field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<ConfigWarning>,
}

/// Something odd about a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ConfigWarning {
    /// The key.
    pub name: String,
    /// What is odd, and what may have been meant.
    pub message: String,
}

/// A key with its value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigInfo {
    /// The key; null for a value whose key nobody defines.
    pub definition: Option<ConfigKeyInfo>,
    /// Its value.
    pub value: ConfigValueInfo,
}

/// A key.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigKeyInfo {
    /// The key.
    pub name: String,
    /// BOOLEAN, STRING, INT, SHORT, LONG, DOUBLE, LIST, CLASS or PASSWORD.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Type,
    /// Whether it has no default.
    pub required: bool,
    /// Its default.
    pub default_value: Option<String>,
    /// HIGH, MEDIUM or LOW.
    #[schema(value_type = String)]
    pub importance: Importance,
    /// What it means.
    pub documentation: String,
    /// The heading it stands under.
    pub group: Option<String>,
    /// The place there: Kafka Connect's name for it since 4.2.
    pub order_in_group: i32,
    /// The same, as it was called before.
    pub order: i32,
    /// NONE, SHORT, MEDIUM or LONG.
    #[schema(value_type = String)]
    pub width: Width,
    /// Its label.
    pub display_name: String,
    /// Keys that depend on it.
    pub dependents: Vec<String>,
}

/// A value.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConfigValueInfo {
    /// The key.
    pub name: String,
    /// The value, or the default; passwords are hidden.
    pub value: Option<String>,
    /// Values that a user interface may propose.
    pub recommended_values: Vec<String>,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// Whether a user interface should show it.
    pub visible: bool,
}

impl From<&ConfigKey> for ConfigKeyInfo {
    fn from(key: &ConfigKey) -> Self {
        Self {
            name: key.name.clone(),
            kind: key.kind,
            required: key.default == DefaultValue::Required,
            default_value: match &key.default {
                DefaultValue::Value(value) => Some(value.clone()),
                DefaultValue::Required | DefaultValue::Null => None,
            },
            importance: key.importance,
            documentation: key.documentation.clone(),
            group: key.group.clone(),
            order_in_group: key.order_in_group,
            order: key.order_in_group,
            width: key.width,
            display_name: key.display_name.clone(),
            dependents: key.dependents.clone(),
        }
    }
}

impl ConfigValueInfo {
    /// A value whose key nobody defines.
    pub(super) fn bare(name: &str, value: Option<String>, errors: Vec<String>) -> Self {
        Self { name: name.to_owned(), value, recommended_values: Vec::new(), errors, visible: true }
    }
}

impl ConfigInfos {
    /// What is wrong, a message each.
    pub fn problems(&self) -> Vec<String> {
        self.configs.iter().flat_map(|config| config.value.errors.iter().cloned()).collect()
    }

    /// Connect's message about all errors; `None` if there are none.
    pub fn summary(&self) -> Option<String> {
        if self.error_count == 0 {
            return None;
        }
        let mut message =
            format!("Connector configuration is invalid and contains the following {} error(s):", self.error_count);
        for error in self.configs.iter().flat_map(|config| &config.value.errors) {
            message.push('\n');
            message.push_str(error);
        }
        message.push_str(
            "\nYou can also find the above list of errors at the endpoint `/connector-plugins/{connectorType}/config/validate`",
        );
        Some(message)
    }
}
