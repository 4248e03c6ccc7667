//go:build !linux

package bbolt

import "os"

func forget(*os.File) {}
