// The version of Tendril.
#pragma once

#include "detail/cxx20.hpp"

#define TENDRIL_VERSION_MAJOR 0
#define TENDRIL_VERSION_MINOR 1
#define TENDRIL_VERSION_PATCH 0
#define TENDRIL_VERSION "0.1.0"
