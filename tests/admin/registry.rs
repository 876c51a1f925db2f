//! The registry of these tests: in memory. `tests/admin_redis` runs them with another one.

use tidegate::MemoryRegistry;

pub fn new() -> MemoryRegistry {
    MemoryRegistry::new()
}
