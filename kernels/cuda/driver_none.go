//go:build !gpu

package cuda

// Built says whether this binary has the GPU path.
const Built = false

func openDriver() (driver, error) { return nil, ErrNotBuilt }

func modules() []module { return nil }
