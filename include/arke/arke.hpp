#pragma once

/// Arke: WebSocket connections as typed events and rooms. This is the one header to include.

#include <arke/client.hpp>
#include <arke/connection.hpp>
#include <arke/server.hpp>
