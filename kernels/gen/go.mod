module github.com/corastream/corastream/kernels/gen

go 1.26.0
