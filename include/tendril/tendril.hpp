// All of Tendril: fibers with an explicit switch, tasks and the hub, cooperative POSIX calls.
#pragma once

#include "error.hpp"
#include "fiber.hpp"
#include "posix.hpp"
#include "task.hpp"
#include "trace.hpp"
#include "version.hpp"
