;;; For "guix shell", "guix build -f guix.scm" and "guix package -f guix.scm".

(load "packaging/guix/package.scm")
