//! One operation of the API: its route and its description, in one place.

use std::sync::Arc;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::api::Api;
use super::security::{Guard, Role};

/// An operation: how it is reached, what it takes and answers, and what handles it.
pub(super) struct Endpoint {
    pub method: Method,
    pub path: &'static str,
    pub summary: &'static str,
    pub tag: &'static str,
    pub query: Vec<QueryParam>,
    pub body: Option<Described>,
    pub responses: Vec<(u16, &'static str, Option<Described>)>,
    /// Who may.
    pub guard: Guard,
    pub handler: MethodRouter<Arc<Api>>,
}

/// A query parameter.
pub(super) struct QueryParam {
    pub name: &'static str,
    pub kind: &'static str,
    pub repeated: bool,
    pub description: &'static str,
}

/// A JSON shape: its schema, and the named schemas that it refers to.
pub(super) struct Described {
    pub schema: RefOr<Schema>,
    pub named: Vec<(String, RefOr<Schema>)>,
}

/// The shape `T` by name.
pub(super) fn shape<T: ToSchema>() -> Described {
    let mut named = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut named);
    let reference = utoipa::openapi::Ref::from_schema_name(T::name());
    Described { schema: RefOr::Ref(reference), named }
}

/// A type without a name, such as a list or a map of something.
pub(super) fn inline<T: PartialSchema + ToSchema>() -> Described {
    let mut named = Vec::new();
    T::schemas(&mut named);
    Described { schema: T::schema(), named }
}

/// A list of the shape `T`.
pub(super) fn list_of<T: ToSchema>() -> Described {
    let Described { schema, named } = shape::<T>();
    let array = utoipa::openapi::schema::ArrayBuilder::new().items(schema).build();
    Described { schema: RefOr::T(Schema::Array(array)), named }
}

impl Endpoint {
    pub fn new<H, T>(method: Method, path: &'static str, summary: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Api>>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("only methods that axum routes are used");
        let tag = path.trim_start_matches('/').split('/').next().filter(|tag| !tag.is_empty()).unwrap_or("worker");
        Self {
            path,
            summary,
            tag,
            query: Vec::new(),
            body: None,
            responses: Vec::new(),
            guard: Guard::Role(if method == Method::GET { Role::View } else { Role::Edit }),
            method,
            handler: on(filter, handler),
        }
    }

    pub fn get<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::GET, path, summary, handler)
    }

    pub fn post<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::POST, path, summary, handler)
    }

    pub fn put<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::PUT, path, summary, handler)
    }

    pub fn patch<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::PATCH, path, summary, handler)
    }

    pub fn delete<H: Handler<T, Arc<Api>>, T: 'static>(path: &'static str, summary: &'static str, handler: H) -> Self {
        Self::new(Method::DELETE, path, summary, handler)
    }

    /// A query parameter; `kind` is `boolean` or `string`.
    pub fn query(mut self, name: &'static str, kind: &'static str, description: &'static str) -> Self {
        self.query.push(QueryParam { name, kind, repeated: false, description });
        self
    }

    /// A query parameter that may come several times.
    pub fn queries(mut self, name: &'static str, description: &'static str) -> Self {
        self.query.push(QueryParam { name, kind: "string", repeated: true, description });
        self
    }

    /// The role that it needs, where that is not view for reading and edit for everything else.
    pub fn role(self, role: Role) -> Self {
        self.guarded(Guard::Role(role))
    }

    /// What it needs, where that is not a role.
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    pub fn body(mut self, body: Described) -> Self {
        self.body = Some(body);
        self
    }

    pub fn ok(mut self, status: u16, description: &'static str, body: Described) -> Self {
        self.responses.push((status, description, Some(body)));
        self
    }

    pub fn empty(mut self, status: u16, description: &'static str) -> Self {
        self.responses.push((status, description, None));
        self
    }

    /// An error answer.
    pub fn error(self, status: u16, description: &'static str) -> Self {
        self.ok(status, description, shape::<super::shapes::ErrorMessage>())
    }
}
