#include "idem.h"
