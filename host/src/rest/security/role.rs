//! Who may do what: roles, and the file that gives them (`rest.access.file`).
//!
//! A line is `subject = role[:connectors], …`, where `connectors` is a name in which `*` stands for anything:
//!
//! ```text
//! alice = admin
//! ci = view, edit:staging-*
//! * = view
//! ```

use regex::Regex;

/// What a request needs, and what a subject has; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Read configs, states, offsets, topics, metrics.
    View,
    /// Pause, resume, stop, restart.
    Operate,
    /// Create, change and delete connectors and their offsets.
    Edit,
    /// Log levels, and whatever concerns the whole worker.
    Admin,
}

impl Role {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "view" => Self::View,
            "operate" => Self::Operate,
            "edit" => Self::Edit,
            "admin" => Self::Admin,
            _ => return None,
        })
    }

    /// Its name in the access file.
    pub fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Edit => "edit",
            Self::Admin => "admin",
        }
    }
}

/// A role, on all connectors or on some.
#[derive(Debug, Clone)]
pub struct Grant {
    role: Role,
    /// `None`: all connectors, and the worker itself.
    connectors: Option<Regex>,
}

impl Grant {
    /// Every right.
    pub fn everything() -> Self {
        Self { role: Role::Admin, connectors: None }
    }

    /// Reads `role` or `role:connectors`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (role, connectors) = match text.split_once(':') {
            Some((role, connectors)) => (role.trim(), Some(connectors.trim())),
            None => (text.trim(), None),
        };
        let role =
            Role::parse(role).ok_or_else(|| format!("{role} is not a role; write view, operate, edit or admin"))?;
        let connectors = connectors.map(|pattern| {
            let pattern = regex::escape(pattern).replace(r"\*", ".*");
            Regex::new(&format!("(?s)^{pattern}$")).map_err(|error| error.to_string())
        });
        Ok(Self { role, connectors: connectors.transpose()? })
    }

    /// Whether it is enough for `role`, on a connector or (`None`) on the worker itself.
    fn allows(&self, role: Role, connector: Option<&str>) -> bool {
        self.role >= role
            && match (&self.connectors, connector) {
                (None, _) => true,
                (Some(pattern), Some(connector)) => pattern.is_match(connector),
                (Some(_), None) => false,
            }
    }
}

/// Who sends a request, and what they may do.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The subject, for the audit log.
    pub name: String,
    grants: Vec<Grant>,
}

impl Identity {
    /// Somebody with these rights.
    pub fn new(name: impl Into<String>, grants: Vec<Grant>) -> Self {
        Self { name: name.into(), grants }
    }

    /// Whoever sends a request where nobody has to say who they are.
    pub fn anonymous() -> Self {
        Self::new("anonymous", vec![Grant::everything()])
    }

    /// Somebody without any rights.
    pub fn nobody() -> Self {
        Self::new("nobody", Vec::new())
    }

    /// Whether the subject may do this, to a connector or (`None`) to the worker itself.
    pub fn may(&self, role: Role, connector: Option<&str>) -> bool {
        self.grants.iter().any(|grant| grant.allows(role, connector))
    }

    /// Whether the subject may do this to some connector at least.
    pub fn may_somewhere(&self, role: Role) -> bool {
        self.grants.iter().any(|grant| grant.role >= role)
    }
}

/// The access file: grants by subject.
#[derive(Debug, Clone, Default)]
pub struct AccessRules(Vec<(String, Vec<Grant>)>);

impl AccessRules {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // Names of certificates have = in them, roles have not.
            let (subject, roles) = line
                .rsplit_once('=')
                .ok_or_else(|| format!("line {}: write subject = role[:connectors], …", number + 1))?;
            let grants = roles
                .split(',')
                .map(Grant::parse)
                .collect::<Result<_, _>>()
                .map_err(|error| format!("line {}: {error}", number + 1))?;
            rules.push((subject.trim().to_owned(), grants));
        }
        Ok(Self(rules))
    }

    /// The subject's grants: its own, and those of everybody (`*`).
    pub fn grants(&self, subject: &str) -> Vec<Grant> {
        let own = self.0.iter().filter(|(name, _)| name == subject || name == "*");
        own.flat_map(|(_, grants)| grants.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_by_role_and_connector() {
        let rules = AccessRules::parse(
            "# people\nalice = admin\nci=view, edit:staging-*\n\nCN=bot,O=x = operate:a.b\n* = view:public\n",
        )
        .unwrap();
        let of = |name: &str| Identity::new(name, rules.grants(name));
        assert!(of("alice").may(Role::Admin, None));
        assert!(of("alice").may(Role::Edit, Some("anything")));
        let ci = of("ci");
        assert!(ci.may(Role::Edit, Some("staging-1")) && ci.may(Role::Operate, Some("staging-\n1")));
        assert!(!ci.may(Role::Edit, Some("prod")) && ci.may(Role::View, Some("prod")));
        assert!(!ci.may(Role::Edit, None) && !ci.may(Role::Admin, Some("staging-1")) && ci.may_somewhere(Role::Edit));
        let bot = of("CN=bot,O=x");
        assert!(bot.may(Role::Operate, Some("a.b")) && !bot.may(Role::Operate, Some("axb")));
        assert!(of("nobody").may(Role::View, Some("public")) && !of("nobody").may(Role::View, Some("private")));
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        assert!(AccessRules::parse("a = view\nb").unwrap_err().starts_with("line 2: "));
        assert_eq!(
            AccessRules::parse("a = reader").unwrap_err(),
            "line 1: reader is not a role; write view, operate, edit or admin"
        );
    }
}
